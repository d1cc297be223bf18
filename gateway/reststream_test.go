package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// send starts a POST whose body the test writes as it goes.
func send(t *testing.T, g *gatewaytest.Gateway, path string) (body *io.PipeWriter, answer func() (*http.Response, string)) {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	req, err := http.NewRequestWithContext(t.Context(), "POST", g.URL+path, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+g.Token(t, "ada", ""))
	type result struct {
		res *http.Response
		err error
	}
	done := make(chan result, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		done <- result{res, err}
	}()
	return w, func() (*http.Response, string) {
		t.Helper()
		select {
		case got := <-done:
			if got.err != nil {
				t.Fatal(got.err)
			}
			defer got.res.Body.Close()
			b, err := io.ReadAll(got.res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return got.res, string(b)
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
			return nil, ""
		}
	}
}

// TestStreamedBodies: what is wrong with a body that is read while the call
// runs has its own answer, and a silent caller holds nothing.
func TestStreamedBodies(t *testing.T) {
	everyPlace(t, nil, func(c *configv1.Config) {
		override(c, "Up", &configv1.MethodOverride{StreamIdle: seconds(0.3), MaxRequestBytes: 1000})
		override(c, "Chat", &configv1.MethodOverride{StreamIdle: seconds(0.3)})
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		for _, path := range []string{"/test/v1/up", "/test/v1/chat"} {
			body, answer := send(t, g, path)
			if _, err := io.WriteString(body, `{"id":"a"} `); err != nil {
				t.Fatal(err)
			}
			if res, text := answer(); !strings.Contains(text, "DEADLINE_EXCEEDED") || !strings.Contains(text, "silent") {
				t.Errorf("%s, silent: %d %s", path, res.StatusCode, text)
			}
			body, answer = send(t, g, path)
			go func() { _, _ = io.WriteString(body, `{"id":"a"}{"nope":1}{"id":"b"}`) }()
			if _, text := answer(); !strings.Contains(text, "INVALID_ARGUMENT") || !strings.Contains(text, `"field":"body"`) || strings.Contains(text, "proto:") {
				t.Errorf("%s, not valid: %s", path, text)
			}
		}
		body, answer := send(t, g, "/test/v1/up")
		go func() { _, _ = io.WriteString(body, `{"id":"a"}{"failMessage":"`+strings.Repeat("x", 2000)+`"}`) }()
		if res, text := answer(); res.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(text, "RESOURCE_EXHAUSTED") {
			t.Errorf("too large: %d %s", res.StatusCode, text)
		}
	})
}

// TestChatOverHTTP1 answers each message before the next is sent, and loses
// none.
func TestChatOverHTTP1(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", g.URL+"/test/v1/chat", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.Token(t, "ada", ""))
	go func() { _, _ = io.WriteString(w, `{"id":"m0"}`) }()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for _, next := range []string{"m1", "m2", ""} {
		line, err := lines.ReadString('\n')
		if err != nil || !strings.Contains(line, `"result"`) {
			t.Fatalf("before %q: %s, %v", next, line, err)
		}
		if next == "" {
			break
		}
		if _, err := io.WriteString(w, `{"id":"`+next+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
		t.Errorf("%s, %v", rest, err)
	}
}

// TestSlowAnswer: the bound on reading a request does not end an answer that
// takes longer.
func TestSlowAnswer(t *testing.T) {
	g := gatewaytest.Start(t, func(c *configv1.Config) { c.Http.ReadTimeout = seconds(0.2) }, gateway.WithServices(gatewaytest.TestService(nil)))
	res, body := do(t, g, g.Token(t, "ada", ""), exchange{method: "POST", path: "/test/v1/echo/x", body: `{"delay":"0.6s"}`})
	if res.StatusCode != http.StatusOK {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	w, answer := send(t, g, "/test/v1/echo/x")
	if _, err := io.WriteString(w, `{"id"`); err != nil {
		t.Fatal(err)
	}
	if res, body := answer(); res.StatusCode != http.StatusRequestTimeout || !strings.Contains(body, "did not arrive in time") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
