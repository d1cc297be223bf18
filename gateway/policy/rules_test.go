package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

var defaults = policy.Defaults{
	Deadline:        5 * time.Second,
	StreamIdle:      5 * time.Minute,
	StreamMaxAge:    time.Hour,
	MaxRequestBytes: 1 << 20,
}

// method is an RPC of a service that a test makes up.
type method struct {
	name          string
	rule          string // Text form; "-" leaves the option out.
	client, serve bool   // Which sides stream.
}

// made builds t.v1.Made with the methods, whose messages are those of
// sluice.test.v1, and a proto2-style message where a case needs one.
func made(t *testing.T, serviceRule string, methods ...method) protoreflect.ServiceDescriptor {
	t.Helper()
	sd := &descriptorpb.ServiceDescriptorProto{Name: proto.String("Made")}
	if serviceRule != "" {
		sd.Options = &descriptorpb.ServiceOptions{}
		proto.SetExtension(sd.Options, policyv1.E_Service, parse(t, serviceRule))
	}
	for _, m := range methods {
		md := &descriptorpb.MethodDescriptorProto{
			Name:            proto.String(m.name),
			InputType:       proto.String(".sluice.test.v1.Kinds"),
			OutputType:      proto.String(".sluice.test.v1.EchoResponse"),
			ClientStreaming: proto.Bool(m.client),
			ServerStreaming: proto.Bool(m.serve),
		}
		if m.rule != "-" {
			md.Options = &descriptorpb.MethodOptions{}
			proto.SetExtension(md.Options, policyv1.E_Method, parse(t, m.rule))
		}
		sd.Method = append(sd.Method, md)
	}
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:       proto.String("t/v1/made.proto"),
		Package:    proto.String("t.v1"),
		Syntax:     proto.String("proto3"),
		Dependency: []string{"sluice/test/v1/test.proto"},
		Service:    []*descriptorpb.ServiceDescriptorProto{sd},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Services().Get(0)
}

func parse(t *testing.T, text string) *policyv1.MethodRule {
	t.Helper()
	r := &policyv1.MethodRule{}
	if err := prototext.Unmarshal([]byte(text), r); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func TestEveryServiceOfTheProductHasRules(t *testing.T) {
	services := []protoreflect.ServiceDescriptor{
		userv1.File_shop_user_v1_user_proto.Services().ByName("UserService"),
		orderv1.File_shop_order_v1_order_proto.Services().ByName("OrderService"),
		profilev1.File_shop_profile_v1_profile_proto.Services().ByName("ProfileService"),
		testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService"),
	}
	for i := range bffv1.File_shop_bff_v1_bff_proto.Services().Len() {
		services = append(services, bffv1.File_shop_bff_v1_bff_proto.Services().Get(i))
	}
	table, err := schema.New(services, schema.Options{Defaults: defaults, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, s := range services {
		want += s.Methods().Len()
	}
	if len(table.Methods()) != want {
		t.Errorf("%d methods, want %d", len(table.Methods()), want)
	}
	m := table.Method("/shop.user.v1.UserService/UpdateUser")
	if m == nil || m.Rule.Owner.String() != "user.user_id" || m.Rule.Deadline != 2*time.Second || m.Service != "shop.user.v1.UserService" {
		t.Errorf("UpdateUser: %+v", m)
	}
	if table.Method("/shop.user.v1.UserService/Nope") != nil {
		t.Error("a method that is not there was found")
	}
}

// retries are those of a rule that says idempotent, and no more.
var retries = policy.Retry{MaxAttempts: 3, Codes: 1 << codes.Unavailable, Backoff: 25 * time.Millisecond, MaxBackoff: 250 * time.Millisecond}

func TestRuleResolution(t *testing.T) {
	for name, tc := range map[string]struct {
		service  string
		method   method
		override policy.Override
		want     policy.Rule
	}{
		"the gateway's defaults": {
			method: method{rule: `require {public: true}`},
			want:   policy.Rule{Public: true},
		},
		"the service's values over the defaults": {
			service: `deadline {seconds: 2} limit {class: "read" cost: 3} idempotent: true max_request_bytes: 7 success {code: 202}`,
			method:  method{rule: `require {authenticated: true}`},
			want: policy.Rule{Authenticated: true, Deadline: 2 * time.Second, LimitClass: "read", LimitCost: 3, Idempotent: true,
				MaxRequestBytes: 7, SuccessCode: 202},
		},
		"metadata of the service": {
			service: `metadata {request: "x-a" response: "x-b"}`,
			method:  method{rule: `require {public: true} unauthenticated_by_service: true`},
			want:    policy.Rule{Public: true, UnauthenticatedByService: true, Metadata: policy.Metadata{Request: []string{"x-a"}, Response: []string{"x-b"}}},
		},
		"metadata of the method, whole": {
			service: `metadata {request: "x-a" response: "x-b"}`,
			method:  method{rule: `require {public: true} metadata {}`},
			want:    policy.Rule{Public: true},
		},
		"metadata of the configuration, whole": {
			method:   method{rule: `require {public: true} metadata {request: "x-a" response: "x-b"}`},
			override: policy.Override{Metadata: &policyv1.Metadata{Response: []string{"x-c"}}, UnauthenticatedByService: true},
			want:     policy.Rule{Public: true, UnauthenticatedByService: true, Metadata: policy.Metadata{Response: []string{"x-c"}}},
		},
		"the method's value replaces the service's whole": {
			service: `deadline {nanos: 500000000} limit {class: "read" cost: 3}`,
			method:  method{rule: `require {scopes: "a"} deadline {seconds: 2} limit {class: "write"}`},
			want:    policy.Rule{Scopes: []string{"a"}, Deadline: 2 * time.Second, LimitClass: "write"},
		},
		"configuration over all": {
			method:   method{rule: `require {scopes: ["b", "a"]} deadline {seconds: 2} max_request_bytes: 9`},
			override: policy.Override{Deadline: time.Second, MaxRequestBytes: 10},
			want:     policy.Rule{Scopes: []string{"b", "a"}, Deadline: time.Second, MaxRequestBytes: 10},
		},
		"configuration over the limit": {
			method:   method{rule: `require {public: true} limit {class: "read" cost: 3}`},
			override: policy.Override{LimitClass: "slow"},
			want:     policy.Rule{Public: true, LimitClass: "slow", LimitCost: 3},
		},
		"configuration over the cost": {
			method:   method{rule: `require {public: true} limit {class: "read" cost: 3}`},
			override: policy.Override{LimitCost: 7},
			want:     policy.Rule{Public: true, LimitClass: "read", LimitCost: 7},
		},
		"a limit only in the configuration": {
			method:   method{rule: `require {public: true}`},
			override: policy.Override{LimitClass: "slow", LimitCost: 7},
			want:     policy.Rule{Public: true, LimitClass: "slow", LimitCost: 7},
		},
		"any of some scopes": {
			method: method{rule: `require {scopes: "a" any_scopes: ["b", "c"]}`},
			want:   policy.Rule{Scopes: []string{"a"}, AnyScopes: []string{"b", "c"}},
		},
		"a stream": {
			service:  `deadline {seconds: 2}`,
			method:   method{serve: true, rule: `require {public: true} stream {idle {seconds: 1} max_age {seconds: 9}}`},
			override: policy.Override{StreamMaxAge: 3 * time.Second},
			want:     policy.Rule{Public: true, Deadline: 2 * time.Second, StreamIdle: time.Second, StreamMaxAge: 3 * time.Second},
		},
		"retries": {
			service: `retry {max_attempts: 5 codes: ["UNAVAILABLE", "ABORTED"] attempt_timeout {seconds: 1}}`,
			method:  method{rule: `require {public: true} idempotent: true`},
			want: policy.Rule{Public: true, Idempotent: true, Retry: policy.Retry{MaxAttempts: 5, Codes: 1<<codes.Unavailable | 1<<codes.Aborted,
				Backoff: 25 * time.Millisecond, MaxBackoff: 250 * time.Millisecond, AttemptTimeout: time.Second}},
		},
		"a service's retries are not for what may not be called twice": {
			service: `retry {max_attempts: 5}`,
			method:  method{rule: `require {public: true}`},
			want:    policy.Rule{Public: true},
		},
		"a longer first wait": {
			method: method{rule: `require {public: true} idempotent: true retry {backoff {seconds: 1}}`},
			want: policy.Rule{Public: true, Idempotent: true, Retry: policy.Retry{MaxAttempts: 3, Codes: 1 << codes.Unavailable,
				Backoff: time.Second, MaxBackoff: time.Second}},
		},
		"the configuration's retries": {
			method:   method{rule: `require {public: true} idempotent: true`},
			override: policy.Override{Retry: &policyv1.Retry{MaxAttempts: 1}},
			want: policy.Rule{Public: true, Idempotent: true, Retry: policy.Retry{MaxAttempts: 1, Codes: 1 << codes.Unavailable,
				Backoff: 25 * time.Millisecond, MaxBackoff: 250 * time.Millisecond}},
		},
		"a cache": {
			method: method{rule: `require {public: true} idempotent: true cache {scope: CACHE_SCOPE_PUBLIC ttl {seconds: 5} tags: "t/{f_string}"} invalidates: "x"`},
			want: policy.Rule{Public: true, Idempotent: true, Retry: policy.Retry{MaxAttempts: 3, Codes: 1 << codes.Unavailable, Backoff: 25 * time.Millisecond, MaxBackoff: 250 * time.Millisecond},
				Cache:       &policy.Cache{Public: true, TTL: 5 * time.Second, Tags: []string{"t/{f_string}"}},
				Invalidates: []string{"x"}},
		},
		"the configuration takes the cache": {
			method:   method{rule: `require {public: true} idempotent: true cache {scope: CACHE_SCOPE_PUBLIC ttl {seconds: 5}}`},
			override: policy.Override{NoCache: true, BranchShare: 70},
			want:     policy.Rule{Public: true, Idempotent: true, Retry: policy.Retry{MaxAttempts: 3, Codes: 1 << codes.Unavailable, Backoff: 25 * time.Millisecond, MaxBackoff: 250 * time.Millisecond}, BranchShare: 70},
		},
		"the service decides about the owner": {
			method: method{rule: `require {authenticated: true owner_checked_by_service: true}`},
			want:   policy.Rule{Authenticated: true, OwnerByService: true},
		},
		"location": {
			method: method{rule: `require {public: true} success {code: 201 location: "/v1/{id}/of/{inner.owner}"}`},
			want:   policy.Rule{Public: true, SuccessCode: 201, Location: "/v1/{id}/of/{inner.owner}"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.method.name = "M"
			overrides := map[string]policy.Override{}
			if tc.override != (policy.Override{}) {
				overrides["t.v1.Made/M"] = tc.override
			}
			table, err := schema.New([]protoreflect.ServiceDescriptor{made(t, tc.service, tc.method)}, schema.Options{Defaults: defaults, Overrides: overrides, Linked: protoregistry.GlobalTypes})
			if err != nil {
				t.Fatal(err)
			}
			orDefault(&tc.want.Deadline, defaults.Deadline)
			orDefault(&tc.want.StreamIdle, defaults.StreamIdle)
			orDefault(&tc.want.StreamMaxAge, defaults.StreamMaxAge)
			orDefault(&tc.want.MaxRequestBytes, defaults.MaxRequestBytes)
			orDefault(&tc.want.LimitCost, 1)
			orDefault(&tc.want.SuccessCode, 200)
			orDefault(&tc.want.BranchShare, policy.DefaultBranchShare)
			if tc.want.Retry == (policy.Retry{}) {
				tc.want.Retry.MaxAttempts = 1
				if tc.want.Idempotent {
					tc.want.Retry = retries
				}
			}
			m := table.Method("/t.v1.Made/M")
			if diff := cmp.Diff(tc.want, m.Rule); diff != "" {
				t.Error(diff)
			}
			if m.Streaming() != tc.method.serve {
				t.Error("Streaming is wrong")
			}
		})
	}
}

func orDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

func TestRuleErrors(t *testing.T) {
	const public = `require {public: true} `
	for name, tc := range map[string]struct {
		service   string
		method    method
		overrides map[string]policy.Override
		want      string
	}{
		"no rule":                                   {method: method{rule: "-"}, want: "t/v1/made.proto: t.v1.Made.M has no rule"},
		"every method would authenticate":           {service: `unauthenticated_by_service: true`, method: method{rule: public}, want: "state it on the methods"},
		"no rule under a service's rule":            {service: `deadline {seconds: 1}`, method: method{rule: "-"}, want: "t.v1.Made.M has no rule"},
		"no require":                                {method: method{rule: `idempotent: true`}, want: "exactly one of public, authenticated, scopes"},
		"empty require":                             {method: method{rule: `require {}`}, want: "exactly one of"},
		"public and scopes":                         {method: method{rule: `require {public: true scopes: "a"}`}, want: "exactly one of"},
		"public and authenticated":                  {method: method{rule: `require {public: true authenticated: true}`}, want: "exactly one of"},
		"retries of what may not be called twice":   {method: method{rule: public + `retry {max_attempts: 2}`}, want: "retry needs idempotent: true"},
		"too many attempts":                         {method: method{rule: public + `idempotent: true retry {max_attempts: 11}`}, want: "retry.max_attempts 11 must be from 1 to 10"},
		"an unknown code":                           {method: method{rule: public + `idempotent: true retry {codes: "unavailable"}`}, want: `retry.codes: "unavailable" is no gRPC code of a failure`},
		"OK is no failure":                          {method: method{rule: public + `idempotent: true retry {codes: "OK"}`}, want: `"OK" is no gRPC code of a failure`},
		"waits that shrink":                         {method: method{rule: public + `idempotent: true retry {backoff {seconds: 2} max_backoff {seconds: 1}}`}, want: "retry.max_backoff 1s is below retry.backoff 2s"},
		"retries of a stream":                       {method: method{serve: true, rule: public + `idempotent: true retry {max_attempts: 2}`}, want: "retry and cache are for unary methods"},
		"a cache of a stream":                       {method: method{serve: true, rule: public + `cache {scope: CACHE_SCOPE_PUBLIC ttl {seconds: 1}}`}, want: "retry and cache are for unary methods"},
		"a cache for nobody":                        {method: method{rule: public + `idempotent: true cache {ttl {seconds: 1}}`}, want: "cache.scope is missing"},
		"a cache for no time":                       {method: method{rule: public + `idempotent: true cache {scope: CACHE_SCOPE_PUBLIC}`}, want: "cache.ttl is missing"},
		"a public cache of what is the principal's": {method: method{rule: `require {authenticated: true owner_checked_by_service: true} idempotent: true cache {scope: CACHE_SCOPE_PUBLIC ttl {seconds: 1}}`}, want: "the answer is not the same for everyone"},
		"a tag of nothing":                          {method: method{rule: public + `idempotent: true cache {scope: CACHE_SCOPE_PUBLIC ttl {seconds: 1} tags: "t/{nope}"}`}, want: `tag "t/{nope}"`},
		"a tag with loose braces":                   {method: method{rule: public + `invalidates: "t/{f_string"`}, want: "braces hold the path of a field"},
		"a share of more than all":                  {method: method{rule: public + `branches {share_percent: 101}`}, want: "branches.share_percent 101 must be from 1 to 100"},
		"an override's retries of what may not be called twice": {method: method{rule: public}, overrides: map[string]policy.Override{"t.v1.Made/M": {Retry: &policyv1.Retry{}}}, want: "methods: t.v1.Made/M: retry needs idempotent: true"},
		"a cache of a write":                {method: method{rule: public + `cache {scope: CACHE_SCOPE_PUBLIC ttl {seconds: 1}}`}, want: "cache needs idempotent: true"},
		"an override's cache of a write":    {method: method{rule: public}, overrides: map[string]policy.Override{"t.v1.Made/M": {Cache: &policyv1.Cache{}}}, want: "cache needs idempotent: true"},
		"a tag that is all field":           {method: method{rule: public + `idempotent: true cache {scope: CACHE_SCOPE_PUBLIC ttl {seconds: 1} tags: "{f_string}"}`}, want: "begins with a word"},
		"varies by what is repeated":        {method: method{rule: public + `idempotent: true cache {scope: CACHE_SCOPE_PUBLIC ttl {seconds: 1} vary: "r_string"}`}, want: "cache.vary"},
		"a stream that invalidates":         {method: method{serve: true, rule: public + `invalidates: "x"`}, want: "invalidates is for unary methods"},
		"an override's cache, and none":     {method: method{rule: public}, overrides: map[string]policy.Override{"t.v1.Made/M": {NoCache: true, Cache: &policyv1.Cache{}}}, want: "cache and cache_off exclude each other"},
		"owner alone":                       {method: method{rule: `require {owner: "f_string"}`}, want: "exactly one of"},
		"require on the service":            {service: `require {public: true}`, method: method{rule: public}, want: "take require off the service"},
		"a scope with a space":              {method: method{rule: `require {scopes: "a b"}`}, want: "a scope is a word"},
		"an empty scope":                    {method: method{rule: `require {scopes: ""}`}, want: "a scope is a word"},
		"public owner":                      {method: method{rule: `require {public: true owner: "f_string"}`}, want: "a public method has no owner"},
		"public owner, by the service":      {method: method{rule: `require {public: true owner_checked_by_service: true}`}, want: "a public method has no owner"},
		"both owners":                       {method: method{rule: `require {authenticated: true owner: "f_string" owner_checked_by_service: true}`}, want: "exclude each other"},
		"owner on a client stream":          {method: method{client: true, rule: `require {authenticated: true owner: "f_string"}`}, want: "a client stream has many messages"},
		"owner that is not there":           {method: method{rule: `require {authenticated: true owner: "nope"}`}, want: `sluice.test.v1.Kinds has no field "nope"`},
		"owner in a oneof":                  {method: method{rule: `require {authenticated: true owner: "c_string"}`}, want: "is in a oneof"},
		"owner through a oneof":             {method: method{rule: `require {authenticated: true owner: "c_message.owner"}`}, want: "is in a oneof"},
		"repeated owner":                    {method: method{rule: `require {authenticated: true owner: "r_string"}`}, want: "is repeated or a map"},
		"owner through a list":              {method: method{rule: `require {authenticated: true owner: "r_message.owner"}`}, want: "is repeated or a map"},
		"owner in a map":                    {method: method{rule: `require {authenticated: true owner: "m_string"}`}, want: "is repeated or a map"},
		"owner is a number":                 {method: method{rule: `require {authenticated: true owner: "f_int32"}`}, want: "leads through messages to a string"},
		"owner is bytes":                    {method: method{rule: `require {authenticated: true owner: "f_bytes"}`}, want: "leads through messages to a string"},
		"owner ends at a message":           {method: method{rule: `require {authenticated: true owner: "f_message"}`}, want: "leads through messages to a string"},
		"owner through a string":            {method: method{rule: `require {authenticated: true owner: "f_string.x"}`}, want: "leads through messages to a string"},
		"owner with an empty name":          {method: method{rule: `require {authenticated: true owner: "f_message."}`}, want: `has no field ""`},
		"any scope with a space":            {method: method{rule: `require {any_scopes: "a b"}`}, want: "a scope is a word"},
		"a scope in both lists":             {method: method{rule: `require {scopes: "a" any_scopes: ["b", "a"]}`}, want: "scope a is named twice"},
		"public and any scopes":             {method: method{rule: `require {public: true any_scopes: "a"}`}, want: "exactly one of"},
		"tenant alone":                      {method: method{rule: `require {tenant: "f_string"}`}, want: "exactly one of"},
		"conditions alone":                  {method: method{rule: `require {conditions {id: "c" expression: "true"}}`}, want: "exactly one of"},
		"public tenant":                     {method: method{rule: `require {public: true tenant: "f_string"}`}, want: "tenant: the callers of a public method"},
		"tenant on a client stream":         {method: method{client: true, rule: `require {authenticated: true tenant: "f_string"}`}, want: "tenant: a client stream has many messages"},
		"tenant that is not there":          {method: method{rule: `require {authenticated: true tenant: "nope"}`}, want: `tenant: sluice.test.v1.Kinds has no field "nope"`},
		"tenant in a oneof":                 {method: method{rule: `require {authenticated: true tenant: "c_string"}`}, want: "is in a oneof"},
		"conditions on a client stream":     {method: method{client: true, rule: `require {authenticated: true conditions {id: "c" expression: "true"}}`}, want: "conditions: a client stream has many messages"},
		"two conditions of one id":          {method: method{rule: `require {authenticated: true conditions {id: "c" expression: "true"} conditions {id: "c" expression: "true"}}`}, want: `two have the id "c"`},
		"a condition without an id":         {method: method{rule: `require {authenticated: true conditions {expression: "true"}}`}, want: `condition "": id must be`},
		"a condition that does not compile": {method: method{rule: `require {authenticated: true conditions {id: "c" expression: "request.f_int23 > 1"}}`}, want: "t/v1/made.proto: rule of t.v1.Made.M: condition \"c\": ERROR: c:1:8: undefined field 'f_int23'"},
		"override of a cost without class":  {method: method{rule: public}, overrides: map[string]policy.Override{"t.v1.Made/M": {LimitCost: 2}}, want: "methods: t.v1.Made/M: limit_cost without a limit class"},
		"negative override of a cost":       {method: method{rule: public + `limit {class: "read"}`}, overrides: map[string]policy.Override{"t.v1.Made/M": {LimitCost: -1}}, want: "a value is negative"},
		"deadline of zero":                  {method: method{rule: public + `deadline {}`}, want: "deadline must be a positive duration"},
		"negative deadline":                 {method: method{rule: public + `deadline {seconds: -1}`}, want: "deadline must be a positive duration"},
		"impossible deadline":               {method: method{rule: public + `deadline {seconds: 1 nanos: -1}`}, want: "deadline must be a positive duration"},
		"bad deadline of the service":       {service: `deadline {}`, method: method{rule: public}, want: "deadline must be a positive duration"},
		"negative idle":                     {method: method{serve: true, rule: public + `stream {idle {seconds: -1}}`}, want: "stream.idle must be"},
		"negative age":                      {method: method{serve: true, rule: public + `stream {max_age {seconds: -1}}`}, want: "stream.max_age must be"},
		"deadline on a stream":              {method: method{serve: true, rule: public + `deadline {seconds: 1}`}, want: "state stream.max_age"},
		"stream on a unary method":          {method: method{rule: public + `stream {idle {seconds: 1}}`}, want: "stream is for streaming methods"},
		"negative cost":                     {method: method{rule: public + `limit {class: "read" cost: -1}`}, want: "limit.cost -1 is negative"},
		"cost without a class":              {method: method{rule: public + `limit {cost: 2}`}, want: "limit.cost without limit.class"},
		"negative size":                     {method: method{rule: public + `max_request_bytes: -1`}, want: "max_request_bytes -1 is negative"},
		"a failure as success":              {method: method{rule: public + `success {code: 404}`}, want: "success.code 404 is no success"},
		"location of no field":              {method: method{rule: public + `success {location: "/v1/{nope}"}`}, want: `success.location: sluice.test.v1.EchoResponse has no field "nope"`},
		"location of a number":              {method: method{rule: public + `success {location: "/v1/{index}"}`}, want: "success.location: "},
		"location with an open brace":       {method: method{rule: public + `success {location: "/v1/{id"}`}, want: "braces hold the path"},
		"idempotency key of no field":       {method: method{rule: public + `idempotency_key_field: "nope"`}, want: `has no singular string field "nope"`},
		"idempotency key that is a list":    {method: method{rule: public + `idempotency_key_field: "r_string"`}, want: "has no singular string field"},
		"idempotency key in a oneof":        {method: method{rule: public + `idempotency_key_field: "c_string"`}, want: "has no singular string field"},
		"idempotency key on a stream":       {method: method{client: true, rule: public + `idempotency_key_field: "f_string"`}, want: "a client stream has many messages"},
		"override of no method":             {method: method{rule: public}, overrides: map[string]policy.Override{"t.v1.Made/N": {Deadline: 1}}, want: "methods: t.v1.Made/N: the gateway offers no such method"},
		"negative override":                 {method: method{rule: public}, overrides: map[string]policy.Override{"t.v1.Made/M": {Deadline: -1}}, want: "a value is negative"},
		"override of a stream's deadline":   {method: method{serve: true, rule: public}, overrides: map[string]policy.Override{"t.v1.Made/M": {Deadline: 1}}, want: "state stream_max_age"},
		"override of a unary method's idle": {method: method{rule: public}, overrides: map[string]policy.Override{"t.v1.Made/M": {StreamIdle: 1}}, want: "are for streaming methods"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.method.name = "M"
			table, err := schema.New([]protoreflect.ServiceDescriptor{made(t, tc.service, tc.method)}, schema.Options{Defaults: defaults, Overrides: tc.overrides, Linked: protoregistry.GlobalTypes})
			if err == nil || table != nil {
				t.Fatalf("got %v, %v; want an error", table, err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

func TestNewTableTellsEverythingAtOnce(t *testing.T) {
	s := made(t, "", method{name: "A", rule: "-"}, method{name: "B", rule: `require {authenticated: true owner: "nope" tenant: "nope" conditions {id: "c" expression: "nope"} conditions {id: "d" expression: "1"}} deadline {} success {code: 1}`}, method{name: "C", rule: `require {public: true}`})
	_, err := schema.New([]protoreflect.ServiceDescriptor{s, s}, schema.Options{Defaults: defaults, Overrides: map[string]policy.Override{"x.Y/Z": {}, "t.v1.Made/A": {}}, Linked: protoregistry.GlobalTypes})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"t.v1.Made.A has no rule", "t.v1.Made.B: owner: ", "t.v1.Made.B: tenant: ", `t.v1.Made.B: condition "c": `, `t.v1.Made.B: condition "d": `, "t.v1.Made.B: deadline must be", "t.v1.Made.B: success.code 1", "t.v1.Made/C is registered twice", "methods: x.Y/Z"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "overrides t.v1.Made/A") {
		t.Error("an override of a method whose rule is wrong is called unknown")
	}
}

func TestOwnerWithDefaultOrInGroupIsRefused(t *testing.T) {
	str, group := descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_GROUP
	label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("t/v1/old.proto"), Package: proto.String("t.v1"), Syntax: proto.String("proto2"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("Old"),
			Field: []*descriptorpb.FieldDescriptorProto{
				{Name: proto.String("defaulted"), Number: proto.Int32(1), Type: &str, Label: &label, DefaultValue: proto.String("ada")},
				{Name: proto.String("plain"), Number: proto.Int32(2), Type: &str, Label: &label},
				{Name: proto.String("grp"), Number: proto.Int32(3), Type: &group, Label: &label, TypeName: proto.String(".t.v1.Old.Grp")},
			},
			NestedType: []*descriptorpb.DescriptorProto{{
				Name:  proto.String("Grp"),
				Field: []*descriptorpb.FieldDescriptorProto{{Name: proto.String("owner"), Number: proto.Int32(1), Type: &str, Label: &label}},
			}},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"defaulted": "has a default value", "grp.owner": "is a group", "plain": ""} {
		_, err := policy.CompileFieldPath(fd.Messages().Get(0), path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

func TestWhatPassesInWords(t *testing.T) {
	r := policy.Rule{UnauthenticatedByService: true, Metadata: policy.Metadata{Request: []string{"X-Lang", "x-b"}, Response: []string{"x-total"}}}
	if got := r.Passes(); got != "to the service x-lang x-b; to the caller x-total; the service's UNAUTHENTICATED" || (&policy.Rule{}).Passes() != "" {
		t.Error(got)
	}
}

func TestRuleInWords(t *testing.T) {
	path := userPath(t)
	for _, tc := range []struct {
		rule       policy.Rule
		who, owner string
	}{
		{policy.Rule{AnyScopes: []string{"a", "b"}}, "a|b", ""},
		{policy.Rule{Scopes: []string{"a", "b"}, AnyScopes: []string{"c", "d"}}, "a b c|d", ""},
		{policy.Rule{Public: true}, "public", ""},
		{policy.Rule{Authenticated: true}, "authenticated", ""},
		{policy.Rule{Scopes: []string{"a", "b"}, Owner: path}, "a b", "user.user_id"},
		{policy.Rule{Scopes: []string{"a"}, OwnerByService: true}, "a", "decided by the service"},
	} {
		if tc.rule.Who() != tc.who || tc.rule.OwnerText() != tc.owner {
			t.Errorf("%+v: %q, %q", tc.rule, tc.rule.Who(), tc.rule.OwnerText())
		}
	}
}
