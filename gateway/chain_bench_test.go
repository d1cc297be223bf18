package gateway

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/clientaddr"
	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/policy/condition"
)

// walk is one kind of request with the chains that serve it.
type walk struct {
	edge                     policy.Edge
	arrival, admission, send policy.Chain
	client                   func(netip.Addr, func(string) []string) netip.Addr
	method                   *policy.Method
	peer                     netip.AddrPort
	headers                  map[string][]string // as its edge keeps them
	message                  policy.Message

	answered map[string][]string // the headers of the last answer
	who      *policy.Principal   // of the last call
}

// run takes a Call through the chains as its edge and gateway/upstream do.
func (w *walk) run() error {
	c := &policy.Call{Edge: w.edge, RequestID: "0123456789abcdef", Peer: w.peer, Principal: policy.Anonymous}
	w.answered = map[string][]string{"x-request-id": nil} // Edges begin with some.
	if w.edge == policy.EdgeREST {
		c.Headers, c.Annotate = http.Header(w.headers).Values, http.Header(w.answered).Add
	} else {
		c.Headers, c.Annotate = metadata.MD(w.headers).Get, w.annotate
	}
	c.Client = w.client(c.Peer.Addr(), c.Headers)
	ctx, err := w.arrival.Run(context.Background(), c)
	if err != nil {
		return err
	}
	c.Method = w.method
	if ctx, err = w.admission.Admit(ctx, c); err != nil {
		return err
	}
	c.Message = w.message
	_, err = w.send.Run(ctx, c)
	c.Done(err)
	w.who = c.Principal
	return err
}

// annotate costs what the gRPC edge's does, whose checks of a header's
// characters come from one table and cost no allocation.
func (w *walk) annotate(key, value string) {
	key = strings.ToLower(key)
	w.answered[key] = append(w.answered[key], value)
}

// demand is what a route asks of a walk.
type demand struct {
	authenticated   bool // a credential, and nothing more
	owner           bool // the scope users.read, and that the request is one's own
	condition       bool
	rates           bool // two: of the principal and of the method
	address         bool // every address has its rate
	proxied         bool // the caller's address is what a trusted proxy says
	token, key, rpc bool // what the caller shows, and which edge
}

// walks makes walks that share an issuer, its verifier and the API keys.
type walks struct {
	authenticator *auth.Authenticator
	token, key    string
}

func newWalks(t testing.TB) *walks {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	public, err := auth.PublicKeyFiles(file)
	if err != nil {
		t.Fatal(err)
	}
	const issuer, audience = "https://login.example.com/", "shop"
	verifier, err := auth.NewVerifier(auth.Options{Issuers: []auth.Issuer{
		{Name: issuer, Audiences: []string{audience}, Algorithms: []string{"RS256"}, Keys: public},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := &walks{}
	w.token, err = jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": "ada", "scope": "users.read orders.read profile.read",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	key, stored, err := auth.NewAPIKey(auth.APIKey{ID: "bench", Owner: "ada", Scopes: []string{"users.read", "orders.read", "profile.read"}})
	if err != nil {
		t.Fatal(err)
	}
	w.key = key
	keys, err := auth.NewAPIKeys(auth.APIKeysOptions{Keys: []auth.APIKey{stored}})
	if err != nil {
		t.Fatal(err)
	}
	w.authenticator, err = auth.NewAuthenticator(auth.AuthenticatorOptions{Tokens: verifier, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// rate is never used up.
func rate(per limit.Per) limit.Rate {
	return limit.Rate{Per: per, Requests: 1e6, Interval: time.Millisecond, Burst: 1e9}
}

// walk makes one, sees that it gets through, and that what it asks for is what
// lets it through: another's message is refused.
func (w *walks) walk(t testing.TB, d demand) *walk {
	t.Helper()
	out := &walk{
		edge: policy.EdgeREST, peer: netip.MustParseAddrPort("203.0.113.7:40000"),
		headers: map[string][]string{"User-Agent": {"bench"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}},
		method:  w.method(t, d),
	}
	out.chains(t, w.authenticator, d)
	if d.token {
		out.headers["Authorization"] = []string{"Bearer " + w.token}
	}
	if d.key {
		out.headers["X-Api-Key"] = []string{w.key}
	}
	if d.proxied {
		out.headers["X-Forwarded-For"] = []string{"2001:db8:1:2:3::4, 203.0.113.9"}
	}
	out.message = wired(t, &userv1.GetUserRequest{UserId: "ada"})
	if d.rpc {
		out.edge, out.headers = policy.EdgeGRPC, lowered(out.headers)
	}
	out.try(t, d, wired(t, &userv1.GetUserRequest{UserId: "eve"}))
	return out
}

// method is GetUser with a rule of its own.
func (w *walks) method(t testing.TB, d demand) *policy.Method {
	t.Helper()
	sd := userv1.File_shop_user_v1_user_proto.Services().ByName("UserService")
	m := &policy.Method{FullName: userv1.UserService_GetUser_FullMethodName, Service: string(sd.FullName()), Descriptor: sd.Methods().ByName("GetUser")}
	r := &m.Rule
	r.Public, r.Authenticated = !d.authenticated && !d.owner, d.authenticated
	if d.owner {
		owner, err := policy.CompileFieldPath(m.Descriptor.Input(), "user_id")
		if err != nil {
			t.Fatal(err)
		}
		r.Scopes, r.Owner = []string{"users.read"}, owner
	}
	if d.condition {
		c, err := condition.Compile((&userv1.GetUserRequest{}).ProtoReflect().Type(), "own", "request.user_id == principal.subject")
		if err != nil {
			t.Fatal(err)
		}
		r.Conditions = []*condition.Program{c}
	}
	if d.rates {
		r.LimitClass, r.LimitCost = "read", 1
	}
	return m
}

// chains are those that serve.
func (w *walk) chains(t testing.TB, a *auth.Authenticator, d demand) {
	t.Helper()
	o := limit.Options{
		Store: limit.NewLocal(limit.NewMemory(limit.MemoryOptions{}), nil), Arrivals: limit.NewMemory(limit.MemoryOptions{}),
		Classes: []limit.Class{{Name: "read", Rates: []limit.Rate{rate(limit.PerPrincipal), rate(limit.PerMethod)}}},
	}
	if d.address {
		r := rate(limit.PerAddress)
		o.Address = &r
	}
	l, err := limit.New(o)
	if err != nil {
		t.Fatal(err)
	}
	opts := newOptions(nil)
	w.arrival, w.admission, w.send = arrivalChain(l), edgeChain(a, l, opts), entryChain(opts)
	resolver := (*clientaddr.Resolver)(nil) // Of no use to anyone.
	if d.address {
		resolver = clientaddr.New(clientaddr.Options{Untrusted: func() {}})
	}
	if d.proxied {
		resolver = clientaddr.New(clientaddr.Options{Trusted: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	}
	w.client = resolver.Client
}

// try holds the walk to its demands, so that no benchmark is of a chain that
// does not look.
func (w *walk) try(t testing.TB, d demand, others policy.Message) {
	t.Helper()
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	if got, want := w.who.Subject != "", d.token || d.key; got != want {
		t.Fatalf("%+v: the caller is %+v", d, w.who)
	}
	if got := len(w.answered) == 3; got != d.rates {
		t.Fatalf("%+v: answered %v", d, w.answered)
	}
	mine := w.message
	w.message = others
	if err := w.run(); (err != nil) != (d.owner || d.condition) {
		t.Fatalf("%+v: another's message: %v", d, err)
	}
	w.message = mine
}

func wired(t testing.TB, m proto.Message) policy.Message {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Message{Wire: b}
}

func lowered(h map[string][]string) map[string][]string {
	out := map[string][]string{}
	for k, v := range h {
		out[strings.ToLower(k)] = v
	}
	return out
}

// The open route, and what each demand adds to it.
var demands = []struct {
	name string
	demand
}{
	{"a-open", demand{}},
	{"b-token", demand{authenticated: true, token: true}},
	{"c-scope-owner", demand{token: true, owner: true}},
	{"d-two-rates", demand{token: true, owner: true, rates: true}},
	{"e-address", demand{token: true, owner: true, rates: true, address: true}},
	{"e-address-proxied", demand{token: true, owner: true, rates: true, address: true, proxied: true}},
	{"f-api-key", demand{key: true, owner: true, rates: true, address: true}},
	{"g-condition", demand{token: true, owner: true, rates: true, address: true, condition: true}},
}

// BenchmarkChain is what the policy chain costs a call that gets through, step by
// step and on both edges: docs/decisions/0013-chain-cost.md.
func BenchmarkChain(b *testing.B) {
	w := newWalks(b)
	for _, d := range demands {
		for _, edge := range []policy.Edge{policy.EdgeREST, policy.EdgeGRPC} {
			d.rpc = edge == policy.EdgeGRPC
			walk := w.walk(b, d.demand)
			b.Run(d.name+"/"+string(edge), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := walk.run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestChainAllocations: a token, a scope, the owner and two limits, beside the
// limit of addresses, cost at most five allocations more than the open route: in
// the chains of either edge, and in all that a request makes the REST edge do.
func TestChainAllocations(t *testing.T) {
	const most = 5
	w := newWalks(t)
	for edge, served := range map[policy.Edge]bool{policy.EdgeREST: false, policy.EdgeGRPC: false, "served": true} {
		count := func(d demand) float64 {
			d.rpc = edge == policy.EdgeGRPC
			walk := w.walk(t, d)
			f := func() {
				if err := walk.run(); err != nil {
					t.Error(err)
				}
			}
			if served {
				f = walk.served(t)
			}
			return testing.AllocsPerRun(1000, f)
		}
		open := count(demand{})
		for name, d := range map[string]demand{
			"token":   {token: true, owner: true, rates: true, address: true},
			"API key": {key: true, owner: true, rates: true, address: true},
		} {
			if got := count(d); got > open+most {
				t.Errorf("%s, %s: %v allocations, and %v on an open route", edge, name, got, open)
			}
		}
	}
}
