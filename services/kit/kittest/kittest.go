// Package kittest puts a service behind the interceptors of kit for tests,
// in-process and over TCP, and calls it as whoever a test wants.
package kittest

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-gateway/sluice/services/kit"
)

// Signer signs assertions as the gateway does.
type Signer struct {
	// Public verifies what the signer signs.
	Public  ed25519.PublicKey
	private ed25519.PrivateKey
}

// NewSigner returns a signer with a key of its own.
func NewSigner(t testing.TB) *Signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Signer{Public: public, private: private}
}

// Token returns an assertion of a caller towards a service, good for a minute.
func (s *Signer) Token(t testing.TB, c kit.Caller, audience string) string {
	t.Helper()
	claims := jwt.MapClaims{
		"iss": "sluice", "sub": c.Subject, "scope": strings.Join(c.Scopes, " "), "aud": []string{audience},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	if c.Tenant != "" {
		claims["tenant"] = c.Tenant
	}
	return s.Sign(t, claims)
}

// Sign returns any claims, signed.
func (s *Signer) Sign(t testing.TB, claims jwt.Claims) string {
	t.Helper()
	return s.SignWith(t, nil, claims)
}

// SignWith is Sign with more in the header.
func (s *Signer) SignWith(t testing.TB, header map[string]any, claims jwt.Claims) string {
	t.Helper()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	maps.Copy(unsigned.Header, header)
	token, err := unsigned.SignedString(s.private)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Conn reaches a service under test.
type Conn struct {
	grpc.ClientConnInterface
	t      testing.TB
	signer *Signer
}

// Transports names the ways in which a service can be reached; all must behave the
// same.
func Transports() []string { return []string{"inprocess", "tcp"} }

// Serve serves what register registers until the test ends. A nil log discards.
func Serve(t testing.TB, transport string, register func(grpc.ServiceRegistrar), log *slog.Logger) *Conn {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	signer := NewSigner(t)
	verifier, err := kit.NewVerifier(signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	o := kit.InterceptorOptions{Verifier: verifier, Logger: log}
	unary, err := kit.Unary(o)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := kit.Stream(o)
	if err != nil {
		t.Fatal(err)
	}
	c := &Conn{t: t, signer: signer}
	if transport == "inprocess" {
		ch := new(inprocgrpc.Channel).WithServerUnaryInterceptor(unary).WithServerStreamInterceptor(stream)
		register(ch)
		c.ClientConnInterface = ch
		return c
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(unary), grpc.StreamInterceptor(stream), grpc.MaxRecvMsgSize(4<<20))
	register(server)
	c.ClientConnInterface = serveTCP(t, server)
	return c
}

func serveTCP(t testing.TB, server *grpc.Server) *grpc.ClientConn {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

// As returns the connection as a caller uses it, with an assertion on every call.
func (c *Conn) As(subject string, scopes ...string) grpc.ClientConnInterface {
	return &asserting{ClientConnInterface: c.ClientConnInterface, t: c.t, signer: c.signer,
		caller: kit.Caller{Subject: subject, Scopes: scopes}}
}

// Signer returns what signs the assertions that the service accepts.
func (c *Conn) Signer() *Signer { return c.signer }

type asserting struct {
	grpc.ClientConnInterface
	t      testing.TB
	signer *Signer
	caller kit.Caller
}

func (a *asserting) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return a.ClientConnInterface.Invoke(a.asserted(ctx, method), method, args, reply, opts...)
}

func (a *asserting) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return a.ClientConnInterface.NewStream(a.asserted(ctx, method), desc, method, opts...)
}

func (a *asserting) asserted(ctx context.Context, method string) context.Context {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return metadata.AppendToOutgoingContext(ctx, kit.AssertionKey, a.signer.Token(a.t, a.caller, service))
}
