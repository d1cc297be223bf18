package policy_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

type key string

// pass is a check that leaves its name in log and in the context.
func pass(log *[]string, name string) policy.Step {
	return policy.Step{Name: name, Check: func(ctx context.Context, _ *policy.Call) (context.Context, error) {
		*log = append(*log, name)
		return context.WithValue(ctx, key(name), true), nil
	}}
}

func refuse(name string, err error) policy.Step {
	return policy.Step{Name: name, Check: func(context.Context, *policy.Call) (context.Context, error) { return nil, err }}
}

func TestChainRunsInOrderAndStops(t *testing.T) {
	var log []string
	no := errors.New("no")
	c := &policy.Call{}
	ctx, err := policy.Chain{pass(&log, "a"), pass(&log, "b"), refuse("c", no), pass(&log, "d")}.Run(context.Background(), c)
	if !errors.Is(err, no) || !slices.Equal(log, []string{"a", "b"}) || c.DeniedBy != "c" {
		t.Errorf("err %v, log %v, denied by %q", err, log, c.DeniedBy)
	}
	if ctx == nil || ctx.Value(key("b")) == nil {
		t.Error("the context of the checks that agreed is lost")
	}
	log = nil
	ctx, err = policy.Chain{pass(&log, "a"), pass(&log, "b")}.Run(context.Background(), &policy.Call{})
	if err != nil || ctx.Value(key("a")) == nil || ctx.Value(key("b")) == nil {
		t.Errorf("err %v, values %v %v", err, ctx.Value(key("a")), ctx.Value(key("b")))
	}
}

func TestAdmit(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		c := &policy.Call{}
		ctx, err := policy.Chain{refuse("x", errors.New("no"))}.Admit(context.Background(), c)
		if err == nil || policy.Admitted(ctx) != nil {
			t.Errorf("err %v, admitted %v", err, policy.Admitted(ctx))
		}
	})
	t.Run("admitted", func(t *testing.T) {
		c := &policy.Call{}
		ctx, err := policy.Chain{}.Admit(context.Background(), c)
		if err != nil || policy.Admitted(ctx) != c || c.Principal != policy.Anonymous {
			t.Errorf("err %v, admitted %v, principal %v", err, policy.Admitted(ctx), c.Principal)
		}
	})
	t.Run("no call at all", func(t *testing.T) {
		if policy.Admitted(context.Background()) != nil {
			t.Error("a bare context is admitted")
		}
	})
	t.Run("the principal that a check sets stays", func(t *testing.T) {
		ada := principal("ada")
		c := &policy.Call{}
		_, err := policy.Chain{{Name: "auth", Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
			if c.Principal != policy.Anonymous {
				t.Error("not anonymous before authentication")
			}
			c.Principal = ada
			return ctx, nil
		}}}.Admit(context.Background(), c)
		if err != nil || c.Principal != ada {
			t.Errorf("err %v, principal %v", err, c.Principal)
		}
	})
}

func TestCarry(t *testing.T) {
	c := &policy.Call{}
	from, err := policy.Chain{}.Admit(context.WithValue(context.Background(), key("from"), 1), c)
	if err != nil {
		t.Fatal(err)
	}
	to := policy.Carry(context.WithValue(context.Background(), key("to"), 2), from)
	if policy.Admitted(to) != c || to.Value(key("to")) != 2 || to.Value(key("from")) != nil {
		t.Error("only the admitted call crosses")
	}
	if policy.Admitted(policy.Carry(context.Background(), context.Background())) != nil {
		t.Error("admission out of nothing")
	}
}

func TestBranch(t *testing.T) {
	ada := principal("ada", "users.read")
	parent := &policy.Call{
		Method: &policy.Method{FullName: "/p/P"}, Edge: policy.EdgeREST, RequestID: "r", Principal: ada,
		Peer: netip.MustParseAddrPort("192.0.2.1:5"), PeerCertificate: &x509.Certificate{},
		Headers:  func(string) []string { return []string{"h"} },
		Annotate: func(string, string) { t.Error("a branch annotated the parent's answer") },
	}
	ended := false
	parent.OnDone(func(error) { ended = true })
	ctx, err := policy.Chain{}.Admit(context.Background(), parent)
	if err != nil {
		t.Fatal(err)
	}
	chain := policy.Chain{{Name: "scopes", Check: policy.RequireScopes}}

	may := &policy.Method{FullName: "/b/May", Rule: policy.Rule{Scopes: []string{"users.read"}}}
	bctx, b, err := chain.Branch(ctx, parent, may)
	if err != nil || policy.Admitted(bctx) != b || b == parent || policy.Admitted(ctx) != parent {
		t.Fatalf("err %v, branch %v", err, b)
	}
	if b.Method != may || b.Edge != policy.EdgeBranch || b.Principal != ada || b.RequestID != "r" || b.Peer != parent.Peer ||
		b.PeerCertificate != parent.PeerCertificate || b.Headers("x")[0] != "h" {
		t.Errorf("branch %+v", b)
	}
	b.Annotate("k", "v")
	b.Done(nil)
	if ended {
		t.Error("the branch's end ended the parent")
	}

	mayNot := &policy.Method{FullName: "/b/MayNot", Rule: policy.Rule{Scopes: []string{"orders.read"}}}
	bctx, b, err = chain.Branch(ctx, parent, mayNot)
	if status.Code(err) != codes.PermissionDenied || b.DeniedBy != "scopes" {
		t.Errorf("err %v, denied by %q", err, b.DeniedBy)
	}
	if a := policy.Admitted(bctx); a != nil && a.Method == mayNot {
		t.Error("a refused branch is admitted")
	}
	if _, _, err := chain.Branch(ctx, nil, may); status.Code(err) != codes.Internal {
		t.Errorf("without a parent: %v", err)
	}
}

func TestOnDone(t *testing.T) {
	var log []string
	outcome := errors.New("outcome")
	c := &policy.Call{}
	add := func(name string) func(error) {
		return func(err error) {
			if !errors.Is(err, outcome) {
				t.Errorf("%s got %v", name, err)
			}
			log = append(log, name)
		}
	}
	c.OnDone(add("first"))
	c.OnDone(func(err error) { add("second")(err); c.OnDone(add("late")) })
	c.OnDone(add("third"))
	c.Done(outcome)
	c.Done(outcome)
	if want := []string{"third", "second", "late", "first"}; !slices.Equal(log, want) {
		t.Errorf("ran %v, want %v", log, want)
	}
}

func TestOnDoneSurvivesAPanic(t *testing.T) {
	c, ran := &policy.Call{}, 0
	c.OnDone(func(error) { ran++ })
	c.OnDone(func(error) { panic("x") })
	func() {
		defer func() { _ = recover() }()
		c.Done(nil)
	}()
	c.Done(nil) // What an edge's recovery does.
	if ran != 1 {
		t.Errorf("ran %d times", ran)
	}
}

func TestRequireScopes(t *testing.T) {
	admin, reader, none := principal("root", policy.ScopeAdmin), principal("ada", "users.read"), principal("bob")
	for name, tc := range map[string]struct {
		rule   policy.Rule
		who    *policy.Principal
		code   codes.Code
		reason string
	}{
		"public, anonymous":         {policy.Rule{Public: true}, policy.Anonymous, codes.OK, ""},
		"public, known":             {policy.Rule{Public: true}, none, codes.OK, ""},
		"authenticated, anonymous":  {policy.Rule{Authenticated: true}, policy.Anonymous, codes.Unauthenticated, ""},
		"authenticated, known":      {policy.Rule{Authenticated: true}, none, codes.OK, ""},
		"scopes, anonymous":         {policy.Rule{Scopes: []string{"users.read"}}, policy.Anonymous, codes.Unauthenticated, ""},
		"scopes, all there":         {policy.Rule{Scopes: []string{"users.read"}}, reader, codes.OK, ""},
		"scopes, one of two":        {policy.Rule{Scopes: []string{"users.read", "orders.read"}}, reader, codes.PermissionDenied, "SCOPE_MISSING"},
		"scopes, none":              {policy.Rule{Scopes: []string{"users.read"}}, none, codes.PermissionDenied, "SCOPE_MISSING"},
		"scopes, admin":             {policy.Rule{Scopes: []string{"users.read", "orders.read"}}, admin, codes.OK, ""},
		"a prefix is not the scope": {policy.Rule{Scopes: []string{"users.readall"}}, reader, codes.PermissionDenied, "SCOPE_MISSING"},
		"no rule is not public":     {policy.Rule{}, policy.Anonymous, codes.Unauthenticated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.RequireScopes(context.Background(), &policy.Call{Method: &policy.Method{Rule: tc.rule}, Principal: tc.who})
			checkStatus(t, err, tc.code, tc.reason)
		})
	}
}

func TestRequireOwner(t *testing.T) {
	path := userPath(t)
	raw := policy.Message{Wire: sub(str(1, "ada"))}
	for name, tc := range map[string]struct {
		owner  *policy.FieldPath
		who    *policy.Principal
		msg    policy.Message
		code   codes.Code
		reason string
	}{
		"no owner rule":     {nil, policy.Anonymous, raw, codes.OK, ""},
		"own":               {path, principal("ada"), raw, codes.OK, ""},
		"stranger":          {path, principal("bob"), raw, codes.PermissionDenied, "NOT_OWNER"},
		"admin":             {path, principal("root", "admin"), raw, codes.OK, ""},
		"no owner at all":   {path, principal("ada"), policy.Message{}, codes.PermissionDenied, "NOT_OWNER"},
		"nobody of nothing": {path, policy.Anonymous, policy.Message{}, codes.PermissionDenied, "NOT_OWNER"},
		"admin of nothing":  {path, principal("root", "admin"), policy.Message{}, codes.OK, ""},
		"malformed":         {path, principal("root", "admin"), policy.Message{Wire: []byte{0x0c}}, codes.InvalidArgument, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &policy.Call{Method: &policy.Method{Rule: policy.Rule{Owner: tc.owner}}, Principal: tc.who, Message: tc.msg}
			_, err := policy.RequireOwner(context.Background(), c)
			checkStatus(t, err, tc.code, tc.reason)
		})
	}
}

func checkStatus(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	if reason == "" {
		return
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == reason && info.GetDomain() == policy.ErrorDomain {
			return
		}
	}
	t.Errorf("no ErrorInfo %s in %v", reason, status.Convert(err).Details())
}

// TestAdmittedTwice: a call that is admitted again does not change the context that
// carries it already.
func TestAdmittedTwice(t *testing.T) {
	type key struct{}
	c := &policy.Call{}
	first, err := policy.Chain{}.Admit(context.WithValue(t.Context(), key{}, 1), c)
	if err != nil {
		t.Fatal(err)
	}
	second, err := policy.Chain{}.Admit(context.WithValue(t.Context(), key{}, 2), c)
	if err != nil {
		t.Fatal(err)
	}
	if first.Value(key{}) != 1 || second.Value(key{}) != 2 || policy.Admitted(first) != c || policy.Admitted(second) != c {
		t.Error(first.Value(key{}), second.Value(key{}), policy.Admitted(first) == c, policy.Admitted(second) == c)
	}
	deeper, cancel := context.WithCancel(first)
	defer cancel()
	if policy.Admitted(context.WithValue(deeper, key{}, 3)) != c || policy.Admitted(policy.Carry(t.Context(), deeper)) != c {
		t.Error("lost on the way")
	}
}
