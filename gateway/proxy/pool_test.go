package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pooled is a pool towards a server that counts its open connections.
func pooled(t *testing.T, h http.HandlerFunc) (_ *pool, open, ever *atomic.Int32) {
	t.Helper()
	open, ever = &atomic.Int32{}, &atomic.Int32{}
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s { //nolint:exhaustive // The others are no end.
		case http.StateNew:
			open.Add(1)
			ever.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	addr := srv.Listener.Addr().String()
	p := newPool(&http.Transport{Protocols: protocols, DialContext: dialTo(addr)}, "http", addr, idleConnTimeout, slog.New(slog.DiscardHandler))
	t.Cleanup(p.close)
	return p, open, ever
}

func dialTo(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return dialInto(ctx, addr) }
}

func exchange(t *testing.T, p *pool, ctx context.Context) error {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://x/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func waitFor(t *testing.T, n *atomic.Int32, want int32) {
	t.Helper()
	for range 2000 {
		if n.Load() == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d connections, want %d", n.Load(), want)
}

// TestPoolBounds: what is idle is closed after its time, above the greatest number, and
// when the pool is.
func TestPoolBounds(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }
	t.Run("time", func(t *testing.T) {
		p, open, ever := pooled(t, answer)
		p.idleTime = 20 * time.Millisecond
		if err := exchange(t, p, t.Context()); err != nil {
			t.Fatal(err)
		}
		waitFor(t, open, 0)
		if err := exchange(t, p, t.Context()); err != nil || ever.Load() != 2 {
			t.Errorf("%d connections, %v", ever.Load(), err)
		}
	})
	t.Run("number", func(t *testing.T) {
		all := make(chan struct{})
		var n atomic.Int32
		p, open, _ := pooled(t, func(http.ResponseWriter, *http.Request) {
			if n.Add(1) == 5 {
				close(all)
			}
			<-all
		})
		p.most = 2
		failed := make(chan error, 5)
		for range 5 {
			go func() { failed <- exchange(t, p, t.Context()) }()
		}
		for range 5 {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		waitFor(t, open, 2)
	})
	t.Run("closed", func(t *testing.T) {
		p, open, ever := pooled(t, answer)
		if err := exchange(t, p, t.Context()); err != nil {
			t.Fatal(err)
		}
		p.close()
		waitFor(t, open, 0)
		if err := exchange(t, p, t.Context()); err != nil || ever.Load() != 2 { // A request that had chosen the backend before.
			t.Errorf("%d connections, %v", ever.Load(), err)
		}
		waitFor(t, open, 0)
	})
}

// TestLateDialIsTheNextOnes: an attempt that ends before its connection is there leaves
// it to the next, or attempts that are shorter than a handshake would never have one.
func TestLateDialIsTheNextOnes(t *testing.T) {
	p, open, ever := pooled(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	dial, slow := p.transport.DialContext, make(chan struct{})
	p.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		<-slow
		return dial(ctx, network, addr)
	}
	ctx, leave := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, leave)
	if err := exchange(t, p, ctx); err == nil {
		t.Fatal("an answer without a connection")
	}
	close(slow)
	waitFor(t, open, 1)
	for p.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := exchange(t, p, t.Context()); err != nil || ever.Load() != 1 {
		t.Errorf("%d connections, %v", ever.Load(), err)
	}
}

func (p *pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// TestUnsendableCostsNoConnection: a request that net/http does not send says nothing
// about the connection that it was to go over, nor about the others.
func TestUnsendableCostsNoConnection(t *testing.T) {
	var all sync.WaitGroup
	p, open, ever := pooled(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wait") != "" {
			all.Done()
			all.Wait()
		}
	})
	all.Add(3)
	var asked sync.WaitGroup
	for range 3 {
		asked.Go(func() {
			r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/", http.NoBody)
			r.Header.Set("Wait", "1")
			if res, err := p.RoundTrip(r); err != nil {
				t.Error(err)
			} else {
				_ = res.Body.Close()
			}
		})
	}
	asked.Wait()
	for p.count() < 3 {
		time.Sleep(time.Millisecond)
	}
	for name, spoil := range map[string]func(*http.Request){
		"method": func(r *http.Request) { r.Method = "G T" },
		"header": func(r *http.Request) { r.Header["A b"] = []string{"c"} },
		"value":  func(r *http.Request) { r.Header["A"] = []string{"b\x00"} },
	} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/", http.NoBody)
		spoil(r)
		if res, err := p.RoundTrip(r); err == nil || !unsendable(err) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = res.Body.Close()
			}
		}
	}
	for p.count() < 3 && open.Load() == 3 {
		time.Sleep(time.Millisecond)
	}
	if open.Load() != 3 || ever.Load() != 3 {
		t.Errorf("%d connections of %d are left", open.Load(), ever.Load())
	}
}
