package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// openCall is one that stays open; ended returns how it did.
type openCall struct {
	name  string
	ended func() string
}

// quietService is a plain HTTP service that answers a byte, or upgrades, and then says nothing
// more until its caller goes away. late gets a value for each request that it has and does
// not answer at all.
func quietService(t *testing.T, late chan<- bool) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
			if err == nil {
				_, _, _ = c.ReadMessage()
				_ = c.Close()
			}
			return
		}
		if r.URL.Path == "/plain/late" {
			late <- true
		} else {
			_, _ = w.Write([]byte("."))
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func plainConfig(t *testing.T, c *configv1.Config, late chan<- bool) {
	c.HttpUpstreams = map[string]*configv1.HttpUpstream{"quiet": {Target: quietService(t, late)}}
	c.HttpRoutes = []*configv1.HttpRoute{{Name: "quiet", Upstream: "quiet", Websocket: true,
		Require: &policyv1.Require{Authenticated: true}, Deadline: seconds(600), StreamIdle: seconds(600),
		Match: &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/plain"}}}}
	for _, m := range []string{"Down", "Up", "Chat"} {
		override(c, m, &configv1.MethodOverride{StreamIdle: seconds(600), StreamMaxAge: seconds(600)})
	}
}

// openAll opens a call of every kind that stays open, on both edges, with a credential.
func openAll(ctx context.Context, t *testing.T, g *gatewaytest.Gateway, header, value string, late <-chan bool) (open []openCall) {
	ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(header), value)
	client := testv1.NewTestServiceClient(g.Conn)
	said := func(err error) string { return fmt.Sprint(status.Code(err), " ", status.Convert(err).Details()) }
	down, err := client.Down(ctx, &testv1.DownRequest{Count: 2, Gap: seconds(600)})
	if err == nil {
		_, err = down.Recv()
	}
	if err != nil {
		t.Fatal("Down:", err)
	}
	open = append(open, openCall{"gRPC server stream", func() string { _, err := down.Recv(); return said(err) }})
	up, err := client.Up(ctx)
	if err == nil {
		err = up.Send(&testv1.EchoRequest{Id: "a"})
	}
	if err != nil {
		t.Fatal("Up:", err)
	}
	open = append(open, openCall{"gRPC client stream", func() string { return said(up.RecvMsg(&testv1.EchoResponse{})) }})
	chat, err := client.Chat(ctx)
	if err == nil {
		err = chat.Send(&testv1.EchoRequest{Id: "a"})
	}
	if err == nil {
		_, err = chat.Recv()
	}
	if err != nil {
		t.Fatal("Chat:", err)
	}
	open = append(open, openCall{"gRPC both ways", func() string { _, err := chat.Recv(); return said(err) }})
	for name, path := range map[string]string{"REST stream": "/test/v1/down?count=2&gap=600s", "plain stream": "/plain/events", "plain, before its answer": "/plain/late"} {
		lines, begun := make(chan string, 1), make(chan bool, 1)
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL+path, http.NoBody)
			if err != nil {
				lines <- err.Error()
				return
			}
			req.Header.Set(header, value)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				lines <- err.Error()
				return
			}
			defer res.Body.Close()
			begun <- true
			b, err := io.ReadAll(res.Body)
			lines <- fmt.Sprint(res.StatusCode, " ", string(b), " ", err)
		}()
		open = append(open, openCall{name, func() string { return <-lines }})
		select {
		case <-begun:
		case <-late:
		case how := <-lines:
			t.Fatal(name, how)
		case <-ctx.Done():
			t.Fatal(name, ctx.Err())
		}
	}
	ws, res, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(g.URL, "http")+"/plain/ws", http.Header{header: {value}})
	if err != nil {
		t.Fatal("WebSocket:", err, res)
	}
	t.Cleanup(func() { _ = ws.Close() })
	return append(open, openCall{"WebSocket", func() string { _, _, err := ws.ReadMessage(); return fmt.Sprint(err) }})
}

// allEnd waits for the calls to end, and holds what they say against a reason.
func allEnd(t *testing.T, open []openCall, reason string) {
	t.Helper()
	for _, c := range open {
		ended := make(chan string, 1)
		go func() { ended <- c.ended() }()
		select {
		case how := <-ended:
			if (strings.HasPrefix(c.name, "gRPC") || c.name == "REST stream" || c.name == "plain, before its answer") && !strings.Contains(how, reason) {
				t.Errorf("%s ended with %s, want %s", c.name, how, reason)
			}
			if c.name == "plain stream" && !strings.Contains(how, io.ErrUnexpectedEOF.Error()) {
				t.Errorf("%s looks complete: %s", c.name, how)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s is still open", c.name)
		}
	}
}

func newKey(t *testing.T, id, owner string) (key string, stored *configv1.ApiKey) {
	t.Helper()
	key, k, err := auth.NewAPIKey(auth.APIKey{ID: id, Owner: owner, Scopes: []string{"test.read"}})
	if err != nil {
		t.Fatal(err)
	}
	return key, &configv1.ApiKey{Id: id, Hash: k.Hash, Owner: owner, Scopes: k.Scopes}
}

func keyFile(t *testing.T, file string, keys ...*configv1.ApiKey) {
	t.Helper()
	text := "keys: []\n"
	for i, k := range keys {
		if i == 0 {
			text = "keys:\n"
		}
		text += fmt.Sprintf("  - {id: %s, hash: %q, owner: %s}\n", k.GetId(), k.GetHash(), k.GetOwner())
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOpenCallsEndWithTheirCredential: a credential that is taken away ends what was opened
// with it, of every kind, and nothing that was opened with another.
func TestOpenCallsEndWithTheirCredential(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	dir := t.TempDir()
	secretFile, file := filepath.Join(dir, "secret"), filepath.Join(dir, "keys.yaml")
	if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	issuer := func(audience string) *configv1.Issuer {
		return &configv1.Issuer{Issuer: "https://issuer.example", Audiences: []string{audience}, Algorithms: []string{"HS256"},
			Keys: &configv1.Issuer_HmacSecretFile{HmacSecretFile: secretFile}}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "https://issuer.example", "aud": "a", "sub": "ada",
		"scope": "test.read", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	key, stored := newKey(t, "mine", "ada")
	otherKey, otherStored := newKey(t, "other", "grace")
	inline := func(keys ...*configv1.ApiKey) *configv1.ApiKeys { return &configv1.ApiKeys{Keys: keys} }
	changed := func(edit func(k *configv1.ApiKey)) *configv1.ApiKey {
		k := proto.CloneOf(stored)
		edit(k)
		return k
	}
	_, again := newKey(t, "mine", "ada")
	fileKeys := inline(otherStored)
	fileKeys.File = file
	for name, tc := range map[string]struct {
		header, value string
		before, after *configv1.Auth // after is applied; nil changes the file
		reason        string
	}{
		"a key is removed":             {"X-API-Key", key, &configv1.Auth{ApiKeys: inline(stored, otherStored)}, &configv1.Auth{ApiKeys: inline(otherStored)}, "API_KEY_INVALID"},
		"a key gets another secret":    {"X-API-Key", key, &configv1.Auth{ApiKeys: inline(stored, otherStored)}, &configv1.Auth{ApiKeys: inline(again, otherStored)}, "API_KEY_INVALID"},
		"a key gets another owner":     {"X-API-Key", key, &configv1.Auth{ApiKeys: inline(stored, otherStored)}, &configv1.Auth{ApiKeys: inline(changed(func(k *configv1.ApiKey) { k.Owner = "bob" }), otherStored)}, "CREDENTIAL_CHANGED"},
		"a key gets a tenant":          {"X-API-Key", key, &configv1.Auth{ApiKeys: inline(stored, otherStored)}, &configv1.Auth{ApiKeys: inline(changed(func(k *configv1.ApiKey) { k.Tenant = "acme" }), otherStored)}, "CREDENTIAL_CHANGED"},
		"a key loses a scope":          {"X-API-Key", key, &configv1.Auth{ApiKeys: inline(stored, otherStored)}, &configv1.Auth{ApiKeys: inline(changed(func(k *configv1.ApiKey) { k.Scopes = nil }), otherStored)}, "CREDENTIAL_CHANGED"},
		"a key leaves its file":        {"X-API-Key", key, &configv1.Auth{ApiKeys: fileKeys}, nil, "API_KEY_INVALID"},
		"an issuer is removed":         {"Authorization", "Bearer " + token, &configv1.Auth{Issuers: []*configv1.Issuer{issuer("a")}, ApiKeys: inline(otherStored)}, &configv1.Auth{ApiKeys: inline(otherStored)}, "TOKEN_INVALID"},
		"an issuer gets another aud":   {"Authorization", "Bearer " + token, &configv1.Auth{Issuers: []*configv1.Issuer{issuer("a")}, ApiKeys: inline(otherStored)}, &configv1.Auth{Issuers: []*configv1.Issuer{issuer("b")}, ApiKeys: inline(otherStored)}, "TOKEN_INVALID"},
		"an issuer gets another claim": {"Authorization", "Bearer " + token, &configv1.Auth{Issuers: []*configv1.Issuer{issuer("a")}, ApiKeys: inline(otherStored)}, &configv1.Auth{Issuers: []*configv1.Issuer{withPrefix(issuer("a"))}, ApiKeys: inline(otherStored)}, "CREDENTIAL_CHANGED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.after == nil {
				keyFile(t, file, stored)
			}
			late := make(chan bool, 1)
			g := gatewaytest.Start(t, func(c *configv1.Config) {
				plainConfig(t, c, late)
				c.Auth = tc.before
			}, gateway.WithServices(gatewaytest.TestService(&gatewaytest.Server{})))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			open := openAll(ctx, t, g, tc.header, tc.value, late)
			stays := openStream(ctx, t, g, otherKey)
			if tc.after == nil {
				keyFile(t, file)
			} else {
				next := proto.CloneOf(g.Config)
				next.Auth = tc.after
				if err := g.Apply(ctx, next); err != nil {
					t.Fatal(err)
				}
			}
			allEnd(t, open, tc.reason)
			if err := stays(); err != nil {
				t.Errorf("a stream with another key: %v", err)
			}
			if !strings.Contains(metrics(t, g), fmt.Sprintf("sluice_revoked_calls_total %d", len(open))) {
				t.Errorf("sluice_revoked_calls_total is not %d", len(open))
			}
		})
	}
}

func withPrefix(is *configv1.Issuer) *configv1.Issuer {
	is.Claims = &configv1.Claims{SubjectPrefix: "partner/"}
	return is
}

// openStream opens a stream both ways; what it returns says whether it still works.
func openStream(ctx context.Context, t *testing.T, g *gatewaytest.Gateway, key string) func() error {
	st, err := testv1.NewTestServiceClient(g.Conn).Chat(metadata.AppendToOutgoingContext(ctx, "x-api-key", key))
	ask := func() error {
		if err := st.Send(&testv1.EchoRequest{Id: "a"}); err != nil {
			return err
		}
		_, err := st.Recv()
		return err
	}
	if err == nil {
		err = ask()
	}
	if err != nil {
		t.Fatal(err)
	}
	return ask
}

// TestReloadsLeaveOpenCallsAlone: a reload that leaves a credential as it is ends nothing.
func TestReloadsLeaveOpenCallsAlone(t *testing.T) {
	key, stored := newKey(t, "mine", "ada")
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Auth = &configv1.Auth{ApiKeys: &configv1.ApiKeys{Keys: []*configv1.ApiKey{stored}}}
	},
		gateway.WithServices(gatewaytest.TestService(&gatewaytest.Server{})))
	stays := openStream(t.Context(), t, g, key)
	_, more := newKey(t, "more", "bob")
	wider := proto.CloneOf(stored)
	wider.Scopes = append(wider.Scopes, "test.audit")
	for _, keys := range [][]*configv1.ApiKey{{stored, more}, {wider, more}} {
		next := proto.CloneOf(g.Config)
		next.Auth = &configv1.Auth{ApiKeys: &configv1.ApiKeys{Keys: keys}}
		if err := g.Apply(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		if err := stays(); err != nil {
			t.Errorf("with %d keys: %v", len(keys), err)
		}
	}
	if code := status.Code(stays()); code != codes.OK {
		t.Error(code)
	}
}
