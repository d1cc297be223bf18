package gateway_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"syscall"
	"testing"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// TestHTTP10AnswersAreReset: a caller of HTTP/1.0 knows that an answer is broken off by the
// reset of the connection alone, which reaches through everything that stands around it.
func TestHTTP10AnswersAreReset(t *testing.T) {
	cert, key, trust := certificate(t)
	for name, secure := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			g := gatewaytest.Start(t, func(c *configv1.Config) {
				if secure {
					c.Http.Tls = &configv1.ServerTls{CertFile: cert, KeyFile: key}
				}
			}, gateway.WithServices(gatewaytest.TestService(nil)))
			d := door{name: name, addr: g.Addrs().HTTP}
			if secure {
				d.tls = trust
			}
			for query, whole := range map[string]bool{"?count=2&padding=4": true, "?count=2&padding=4&fail_code=13": false} {
				c := d.dial(t, "http/1.1")
				if _, err := io.WriteString(c, "GET /test/v1/download"+query+" HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				if whole && err != nil || !whole && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: %v", query, err)
				}
			}
		})
	}
}
