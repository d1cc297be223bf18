package payments_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
	"github.com/sluice-gateway/sluice/services/payments"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the service, and a gateway that signs.
type server struct {
	*payments.Service
	url    string
	signer *kittest.Signer
}

func start(t *testing.T, dsn string) *server {
	t.Helper()
	signer := kittest.NewSigner(t)
	v, err := kit.NewVerifier(signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	s, err := payments.Open(t.Context(), dsn, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		web.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &server{s, web.URL, signer}
}

// as sends a request with an assertion of subject for audience; no subject, no assertion.
func (s *server) as(t *testing.T, subject, audience, method, path, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if subject != "" {
		r.Header.Set(kit.AssertionKey, s.signer.Token(t, kit.Caller{Subject: subject}, audience))
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestPayments(t *testing.T) {
	const paid = `{"orderId":"o-1","currency":"EUR","cents":"1999"}`
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		t.Run("requests", func(t *testing.T) {
			s := start(t, e.DSN(t))
			for range 2 { // Once is enough.
				if err := s.Seed(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, tc := range []struct {
				name, subject, audience, method, path, body string
				code                                        int
				want                                        string
			}{
				{"the seed", "ada", payments.Name, "GET", "/v1/payments/ada", "", 200, `"paymentId":"ada-0001"`},
				{"nothing yet", "grace", payments.Name, "GET", "/v1/payments/grace", "", 200, `{"payments":[]}`},
				{"one more", "grace", payments.Name, "POST", "/v1/payments/grace", paid, 201, `"cents":"1999"`},
				{"it is there", "grace", payments.Name, "GET", "/v1/payments/grace", "", 200, `"orderId":"o-1"`},
				{"paid already", "grace", payments.Name, "POST", "/v1/payments/grace", paid, 409, "paid already"},
				{"no JSON", "grace", payments.Name, "POST", "/v1/payments/grace", "x", 400, "no payment"},
				{"an unknown field", "grace", payments.Name, "POST", "/v1/payments/grace", `{"x":1}`, 400, "no payment"},
				{"too large", "grace", payments.Name, "POST", "/v1/payments/grace", `{"orderId":"` + strings.Repeat("x", 20<<10) + `"}`, 400, ""},
				{"a bad order", "grace", payments.Name, "POST", "/v1/payments/grace", strings.Replace(paid, "o-1", "../x", 1), 400, "orderId"},
				{"a bad currency", "grace", payments.Name, "POST", "/v1/payments/grace", strings.Replace(paid, "EUR", "euro", 1), 400, "currency"},
				{"nothing paid", "grace", payments.Name, "POST", "/v1/payments/grace", strings.Replace(paid, "1999", "0", 1), 400, "cents"},
				{"another's", "grace", payments.Name, "GET", "/v1/payments/ada", "", 403, "its own"},
				{"nobody", "", "", "GET", "/v1/payments/ada", "", 401, "no assertion"},
				{"an assertion for another service", "ada", "shop.user.v1.UserService", "GET", "/v1/payments/ada", "", 401, ""},
				{"health", "", "", "GET", payments.HealthPath, "", 200, "ok"},
			} {
				if code, body := s.as(t, tc.subject, tc.audience, tc.method, tc.path, tc.body); code != tc.code || !strings.Contains(body, tc.want) {
					t.Errorf("%s: %d %s, want %d %s", tc.name, code, body, tc.code, tc.want)
				}
			}
			s.Drain()
			if code, _ := s.as(t, "", "", "GET", payments.HealthPath, ""); code != 503 {
				t.Errorf("it drains, and health says %d", code)
			}
		})
		t.Run("events", func(t *testing.T) { events(t, start(t, e.DSN(t))) })
	})
}

// events: a stream has what there is, then what comes, and ends at the drain.
func events(t *testing.T, s *server) {
	if err := s.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/payments/ada/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(kit.AssertionKey, s.signer.Token(t, kit.Caller{Subject: "ada"}, payments.Name))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	next := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data: ") {
				if !strings.Contains(lines.Text(), want) {
					t.Errorf("%s, want %s", lines.Text(), want)
				}
				return
			}
		}
		t.Errorf("the stream ended before %s: %v", want, lines.Err())
	}
	next("ada-0001")
	if code, body := s.as(t, "ada", payments.Name, "POST", "/v1/payments/ada", `{"orderId":"o-2","currency":"EUR","cents":"1"}`); code != 201 {
		t.Fatal(code, body)
	}
	next("o-2")
	s.Drain()
	if rest, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("%q %v", rest, err)
	}
}
