package policy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// of is a member of a tenant with scopes.
func of(tenant string, scopes ...string) *policy.Principal {
	p := policy.NewPrincipal("ada", "t", scopes, time.Time{})
	p.Tenant = tenant
	return p
}

func things(t testing.TB) *policy.Method {
	t.Helper()
	sd := testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService")
	table, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Defaults: defaults, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	return table.Method("/sluice.test.v1.TestService/ListTenantThings").Method
}

// refusal is what a status says: code, reason, metadata.
func refusal(t *testing.T, err error) (codes.Code, string, map[string]string) {
	t.Helper()
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			if info.GetDomain() != policy.ErrorDomain {
				t.Errorf("domain %q", info.GetDomain())
			}
			return st.Code(), info.GetReason(), info.GetMetadata()
		}
	}
	return st.Code(), "", nil
}

func TestAnyScopes(t *testing.T) {
	for name, tc := range map[string]struct {
		rule  policy.Rule
		p     *policy.Principal
		code  codes.Code
		about map[string]string
	}{
		"the first":          {policy.Rule{AnyScopes: []string{"a", "b"}}, of("", "a"), codes.OK, nil},
		"the last":           {policy.Rule{AnyScopes: []string{"a", "b"}}, of("", "b", "z"), codes.OK, nil},
		"none":               {policy.Rule{AnyScopes: []string{"a", "b"}}, of("", "c"), codes.PermissionDenied, map[string]string{"any_scope": "a b"}},
		"no scopes at all":   {policy.Rule{AnyScopes: []string{"a", "b"}}, of(""), codes.PermissionDenied, map[string]string{"any_scope": "a b"}},
		"admin":              {policy.Rule{AnyScopes: []string{"a", "b"}}, of("", "admin"), codes.OK, nil},
		"anonymous":          {policy.Rule{AnyScopes: []string{"a", "b"}}, policy.Anonymous, codes.Unauthenticated, nil},
		"all, and one":       {policy.Rule{Scopes: []string{"x"}, AnyScopes: []string{"a", "b"}}, of("", "x", "b"), codes.OK, nil},
		"all, and none":      {policy.Rule{Scopes: []string{"x"}, AnyScopes: []string{"a", "b"}}, of("", "x"), codes.PermissionDenied, map[string]string{"any_scope": "a b"}},
		"not all, but one":   {policy.Rule{Scopes: []string{"x", "y"}, AnyScopes: []string{"a"}}, of("", "x", "a"), codes.PermissionDenied, map[string]string{"scope": "y"}},
		"a prefix is no one": {policy.Rule{AnyScopes: []string{"a.b"}}, of("", "a"), codes.PermissionDenied, map[string]string{"any_scope": "a.b"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.RequireScopes(t.Context(), &policy.Call{Method: &policy.Method{Rule: tc.rule}, Principal: tc.p})
			code, reason, about := refusal(t, err)
			if code != tc.code || (tc.about != nil) != (reason == "SCOPE_MISSING") {
				t.Fatalf("%v %s: %v", code, reason, err)
			}
			for k, v := range tc.about {
				if about[k] != v || !strings.Contains(status.Convert(err).Message(), strings.Fields(v)[0]) {
					t.Errorf("metadata %v, message %q", about, err)
				}
			}
		})
	}
}

func TestRequireTenantAndConditions(t *testing.T) {
	m := things(t)
	request := func(tenant string, size int32) *testv1.ListTenantThingsRequest {
		return &testv1.ListTenantThingsRequest{TenantId: tenant, PageSize: size}
	}
	for name, tc := range map[string]struct {
		p       *policy.Principal
		request *testv1.ListTenantThingsRequest
		reason  string
		why     string
	}{
		"its own":                   {p: of("acme", "test.read"), request: request("acme", 100)},
		"another's":                 {p: of("acme", "test.read"), request: request("umbrella", 1), reason: "NOT_TENANT"},
		"nobody's":                  {p: of("acme", "test.read"), request: request("", 1), reason: "NOT_TENANT"},
		"of none, to nobody's":      {p: of("", "test.read"), request: request("", 1), reason: "NOT_TENANT"},
		"of none":                   {p: of("", "test.read"), request: request("acme", 1), reason: "NOT_TENANT"},
		"admin of another":          {p: of("acme", "admin"), request: request("umbrella", 1), reason: "NOT_TENANT"},
		"a page too large":          {p: of("acme", "test.read"), request: request("acme", 101), reason: "CONDITION_FAILED", why: `condition "small-pages" is false`},
		"a large page for an audit": {p: of("acme", "test.audit"), request: request("acme", 101)},
		"another's, and too large":  {p: of("acme"), request: request("umbrella", 101), reason: "NOT_TENANT"},
	} {
		t.Run(name, func(t *testing.T) {
			wire, err := proto.Marshal(tc.request)
			if err != nil {
				t.Fatal(err)
			}
			// The last scalar wins, as in the parser.
			early := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1)
			early = append(protowire.AppendString(protowire.AppendTag(early, 1, protowire.BytesType), "acme"), wire...)
			if tc.request.GetTenantId() == "" {
				early = protowire.AppendString(protowire.AppendTag(early, 1, protowire.BytesType), "")
			}
			for form, msg := range map[string]policy.Message{"once": {Wire: wire}, "twice": {Wire: early}} {
				c := &policy.Call{Method: m, Principal: tc.p, Message: msg}
				_, err := policy.Chain{{Name: "tenant", Check: policy.RequireTenant}, {Name: "conditions", Check: policy.RequireConditions}}.Run(t.Context(), c)
				code, reason, about := refusal(t, err)
				if (tc.reason != "") != (code == codes.PermissionDenied) || reason != tc.reason || c.Why != tc.why {
					t.Errorf("%s: %v %s, why %q: %v", form, code, reason, c.Why, err)
				}
				if reason == "CONDITION_FAILED" && (len(about) > 0 || status.Convert(err).Message() != "this call is not allowed") {
					t.Errorf("%s: the caller learns %v, %v", form, about, err)
				}
			}
		})
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	m := things(t)
	for name, wire := range map[string][]byte{
		"truncated": {0x0a, 0x05}, "bad utf8": {0x0a, 0x01, 0xff}, "stray end group": {0x0c},
	} {
		for check, f := range map[string]policy.Check{"tenant": policy.RequireTenant, "conditions": policy.RequireConditions} {
			_, err := f(t.Context(), &policy.Call{Method: m, Principal: of("acme", "admin"), Message: policy.Message{Wire: wire}})
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s, %s: %v", check, name, err)
			}
		}
	}
}

// Evaluation that fails is no yes, and only the operator learns how it failed.
func TestConditionErrorsAreRefusals(t *testing.T) {
	rule := `require {authenticated: true conditions {id: "first" expression: "true"} conditions {id: "keyed" expression: "request.m_string['k'] == ''"}}`
	table, err := schema.New([]protoreflect.ServiceDescriptor{made(t, "", method{name: "M", rule: rule})}, schema.Options{Defaults: defaults, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	m := table.Method("/t.v1.Made/M").Method
	if got := m.Rule.ConditionsText(); got != "first keyed" {
		t.Errorf("ConditionsText %q", got)
	}
	c := &policy.Call{Method: m, Principal: of(""), Message: policy.Message{}}
	_, err = policy.RequireConditions(t.Context(), c)
	if _, reason, _ := refusal(t, err); reason != "CONDITION_FAILED" || c.Why != `condition "keyed": no such key: k` {
		t.Errorf("%s, why %q", reason, c.Why)
	}
	if strings.Contains(err.Error(), "key") {
		t.Errorf("the caller learns %v", err)
	}
}

// Methods without a tenant or conditions do not pay for them, even when the
// message could not be read.
func TestNothingToCheck(t *testing.T) {
	c := &policy.Call{Method: &policy.Method{Rule: policy.Rule{Public: true}}, Principal: policy.Anonymous, Message: policy.Message{Wire: []byte{0xff}}}
	for _, f := range []policy.Check{policy.RequireTenant, policy.RequireConditions} {
		if _, err := f(context.Background(), c); err != nil {
			t.Error(err)
		}
	}
	if got := c.Method.Rule.TenantText() + c.Method.Rule.ConditionsText(); got != "" {
		t.Errorf("in words: %q", got)
	}
	if got := things(t).Rule.TenantText(); got != "tenant_id" {
		t.Errorf("TenantText %q", got)
	}
}

func BenchmarkRequireConditions(b *testing.B) {
	m := things(b)
	wire, err := proto.Marshal(&testv1.ListTenantThingsRequest{TenantId: "acme", PageSize: 50})
	if err != nil {
		b.Fatal(err)
	}
	c := &policy.Call{Method: m, Principal: of("acme", "test.read"), Message: policy.Message{Wire: wire}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.RequireConditions(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
