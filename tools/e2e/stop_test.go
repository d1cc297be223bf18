package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// grace is the time that the gateway of this test gives to what is in flight. It
// ends streams after half of it.
const grace = 6 * time.Second

// TestStop: after SIGTERM the gateway says that it is not ready, takes no new
// connections, ends watches with UNAVAILABLE, finishes an upload that is half
// way, and ends with 0.
func TestStop(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{config: object{"shutdown": object{"grace": "6s", "not_ready_for": "1s"}}})
	token := g.token(t)
	id := place(t, g, token, "watched to the end")
	overREST, overGRPC := watchREST(t, g, token, id), watchGRPC(t, as(t, token), g.conn, id)
	overREST.mustNext(t, placed)
	overGRPC.mustNext(t, placed)
	u := beginUpload(t, g, token)

	g.signal(t, syscall.SIGTERM)
	stopping := time.Now()
	eventually(t, patience, func() error {
		if ready, reason := readiness(g); ready || !strings.Contains(reason, "draining") {
			return fmt.Errorf("ready: %v, %s", ready, reason)
		}
		return nil
	})
	for name, addr := range map[string]string{"REST": strings.TrimPrefix(g.url, "http://"), "gRPC": g.grpcAddr} {
		eventually(t, patience, func() error {
			c, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				c.Close()
				return errors.New(name + " takes new connections")
			}
			return nil
		})
	}
	if a := u.finish(t); a.status != 200 || !strings.Contains(string(a.body), `"hasAvatar":true`) {
		t.Errorf("upload: %d %s", a.status, a.body)
	}
	endsUnavailable(t, overREST, overGRPC)
	if code := g.exitCode(t, grace+patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("the stop took %v, with a grace of %v", time.Since(stopping), grace)
}

// TestStopAtRest: with nothing in flight a stop is quick, and a second SIGTERM is
// not needed. Interrupt is the same.
func TestStopAtRest(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		g := startGateway(t, setup{})
		g.rest(t, "GET", "/v1/users/ada/profile", "", "").want(t, 200, &struct{}{})
		g.signal(t, s)
		if code := g.exitCode(t, 8*time.Second); code != 0 { // The default grace is 20 s.
			t.Errorf("%v: exit code %d", s, code)
		}
	}
}

// readiness asks /readyz, on a connection of its own.
func readiness(g *gateway) (ready bool, reason string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	res, err := client.Get(g.admin + "/readyz")
	if err != nil {
		return false, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode == 200, fmt.Sprint(res.StatusCode, " ", string(body), err)
}

// upload is a picture of which the first half has been sent.
type upload struct {
	body *io.PipeWriter
	rest []byte
	done chan error
	got  answer
}

func beginUpload(t *testing.T, g *gateway, token string) *upload {
	t.Helper()
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	half := picture.Len() / 2
	u := &upload{body: w, rest: picture.Bytes()[half:], done: make(chan error, 1)}
	ctx := bounded(t)
	go func() {
		var err error
		u.got, err = g.send(ctx, "PUT", "/v1/users/ada/profile/avatar", token, r, "Content-Type", "image/png")
		u.done <- err
	}()
	t.Cleanup(func() { w.CloseWithError(io.ErrUnexpectedEOF) }) // In case it is not finished.
	if _, err := w.Write(picture.Bytes()[:half]); err != nil {  // Returns once it is being sent.
		t.Fatal(err)
	}
	// The gateway has it in hand when it counts it.
	eventually(t, patience, func() error {
		if m := g.atAdmin(t, "/metrics"); !strings.Contains(string(m.body), `sluice_requests_in_flight{edge="rest"} 2`) {
			return errors.New("the upload and the watch are not in flight")
		}
		return nil
	})
	return u
}

func (u *upload) finish(t *testing.T) answer {
	t.Helper()
	if _, err := u.body.Write(u.rest); err != nil {
		t.Fatal(err)
	}
	u.body.Close()
	if err := <-u.done; err != nil {
		t.Fatal(err)
	}
	return u.got
}
