package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

// TestTheGatewaysKeyIsReplaced gives a running process another key of the
// gateway: it takes both while both are in the file, then the other alone.
func TestTheGatewaysKeyIsReplaced(t *testing.T) {
	old := newGateway(t)
	next := gateway{Signer: kittest.NewSigner(t), file: old.file}
	c := start(t, nil, "--service", "user", "--addr", "127.0.0.1:0", "--db", "sqlite:"+filepath.Join(t.TempDir(), "u.db"), "--assertion-keys", old.file, "--seed")
	users := userv1.NewUserServiceClient(c.dial())
	get := func(g gateway) error {
		_, err := users.GetUser(g.as(t, userService, "ada"), &userv1.GetUserRequest{UserId: "ada"}, grpc.WaitForReady(true))
		return err
	}
	put := func(of ...gateway) {
		t.Helper()
		var raw []byte
		for _, g := range of {
			der, err := x509.MarshalPKIXPublicKey(g.Public)
			if err != nil {
				t.Fatal(err)
			}
			raw = append(raw, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
		}
		if err := os.WriteFile(old.file+".new", raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(old.file+".new", old.file); err != nil {
			t.Fatal(err)
		}
	}
	eventually := func(what string, g gateway, ok bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); (get(g) == nil) != ok; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never: %s", what)
			}
		}
	}
	if err := get(old); err != nil {
		t.Fatal(err)
	}
	kittest.WantCode(t, get(next), codes.Unauthenticated)
	put(old, next)
	eventually("the next key is taken", next, true)
	if err := get(old); err != nil {
		t.Errorf("the old key while both are there: %v", err)
	}
	put(next)
	eventually("the old key is refused", old, false)
	if err := get(next); err != nil {
		t.Error(err)
	}
}
