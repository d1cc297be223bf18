package httpedge

import (
	"context"
	"net"
	"net/http"
	"testing"
)

// TestCorkContext: only what can hold back is asked to.
func TestCorkContext(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if ctx := CorkContext(t.Context(), a); ctx != t.Context() {
		t.Error("a pipe has no cork")
	}
	for name, r := range map[string]*http.Request{
		"HTTP/2":     {ProtoMajor: 2},
		"a cork":     {ProtoMajor: 1},
		"small":      {ProtoMajor: 1},
		"no context": {ProtoMajor: 1},
	} {
		ctx := context.WithValue(t.Context(), corkKey{}, corker(noCork{}))
		n := corkPlain
		switch name {
		case "small":
			n--
		case "no context":
			ctx = t.Context()
		}
		x := &Exchange{Request: r.WithContext(ctx)}
		if got, want := x.corker(n) != nil, name == "a cork"; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func (noCork) Cork() {}

func (noCork) Uncork() error { return nil }

type noCork struct{}
