package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

func serving(t *testing.T, program string, status int, body string) *process {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	exited := make(chan struct{})
	return &process{name: "test", program: program, addr: strings.TrimPrefix(s.URL, "http://"), exited: exited}
}

func TestVerify(t *testing.T) {
	wire := func(u *userv1.User) string {
		b, err := proto.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	base := serving(t, "plain", 200, `{"userId":"ada","email":"a@b.c","displayName":"","phone":null,"createTime":null,"etag":""}`)
	for _, tc := range []struct {
		name, program, body string
		status              int
		want                string // in the error; empty: none
	}{
		{"another order, nulls left out", "sluice", `{"email":"a@b.c", "etag":"","displayName":"", "userId": "ada"}`, 200, ""},
		{"protobuf", "floor", wire(&userv1.User{UserId: "ada", Email: "a@b.c"}), 200, ""},
		{"protobuf of another value", "floor", wire(&userv1.User{UserId: "ada", Email: "x@b.c"}), 200, "differently"},
		{"no protobuf", "floor", "{}", 200, "cannot parse"},
		{"another value", "sluice", `{"email":"x@b.c","etag":"","displayName":"","userId":"ada"}`, 200, "differently"},
		{"a member less", "sluice", `{"email":"a@b.c","displayName":"","userId":"ada"}`, 200, "differently"},
		{"not the whole", "sluice", `{}`, 200, "not the whole"},
		{"refused", "sluice", `{"userId":"ada"}`, 403, "403"},
		{"no such member", "sluice", `{"userId":"ada","x":1}`, 200, "unknown field"},
		{"no JSON", "sluice", `hello`, 200, "invalid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := verify(t.Context(), workNamed("user"), base, serving(t, tc.program, tc.status, tc.body))
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// A gateway that lets everything through is not measured.
func TestVerifyChainWantsRefusals(t *testing.T) {
	open := serving(t, "sluice", 200, "{}")
	open.token = "good"
	if err := verifyChain(t.Context(), open, true); err == nil || !strings.Contains(err.Error(), "without a token") {
		t.Errorf("error %v, want one that says what was let through", err)
	}
}
