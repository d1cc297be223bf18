package tlsfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// defaultRefresh is how often files are looked at.
const defaultRefresh = 10 * time.Second

// watcher reads files again when they change, and hands sets that can be used
// to swap.
type watcher struct {
	files files
	log   *slog.Logger
	name  string
	swap  func(*material)

	reloads *prometheus.CounterVec
	expiry  *prometheus.GaugeVec

	used   [sha256.Size]byte // what is in use
	failed string            // what was complained of last, so that it is said once

	stop context.CancelFunc
	done chan struct{}
}

// Outcomes of a reload, in sluice_tls_reloads_total.
const (
	outcomeLoaded = "loaded"
	outcomeFailed = "failed"
)

// watch reads the files once, which must succeed, and then every refresh.
func watch(w *watcher, refresh time.Duration, metrics prometheus.Registerer) error {
	if refresh <= 0 {
		refresh = defaultRefresh
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	c, err := w.files.read()
	if err != nil {
		return fmt.Errorf("TLS of %s: %w", w.name, err)
	}
	m, err := w.files.parse(c)
	if err != nil {
		return fmt.Errorf("TLS of %s: %w", w.name, err)
	}
	if err := w.register(metrics); err != nil {
		return err
	}
	w.use(c, m)
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.done = stop, make(chan struct{})
	if w.files.cert == "" && w.files.ca == "" { // The system's authorities, and no certificate: nothing changes.
		close(w.done)
		return nil
	}
	go w.run(ctx, refresh)
	return nil
}

func (w *watcher) register(r prometheus.Registerer) error {
	w.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_tls_reloads_total",
		Help: "Changes of certificate files, by what they belong to and outcome (loaded, failed)."}, []string{"name", "outcome"})
	w.expiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_tls_certificate_expiry_seconds",
		Help: "Unix time at which the certificate in use expires."}, []string{"name"})
	if r != nil { // Several listeners and clients share the two.
		var err error
		if w.reloads, err = shared(r, w.reloads); err != nil {
			return err
		}
		if w.expiry, err = shared(r, w.expiry); err != nil {
			return err
		}
	}
	w.reloads.WithLabelValues(w.name, outcomeLoaded)
	w.reloads.WithLabelValues(w.name, outcomeFailed)
	return nil
}

// shared registers c, or returns what was registered in its place before.
func shared[C prometheus.Collector](r prometheus.Registerer, c C) (C, error) {
	err := r.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if there, ok := already.ExistingCollector.(C); ok {
			return there, nil
		}
	}
	return c, err
}

func (w *watcher) run(ctx context.Context, refresh time.Duration) {
	defer close(w.done)
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.check()
		}
	}
}

// check looks at the files once.
func (w *watcher) check() {
	c, err := w.files.read()
	if err != nil {
		w.complain(err.Error(), err)
		return
	}
	sum := c.sum()
	if sum == w.used {
		w.failed = ""
		return
	}
	if w.failed == string(sum[:]) {
		return
	}
	m, err := w.files.parse(c)
	if err != nil { // A pair of which half is written is whole the next time.
		w.complain(string(sum[:]), err)
		return
	}
	w.use(c, m)
	w.reloads.WithLabelValues(w.name, outcomeLoaded).Inc()
	w.log.Info("TLS files read again", "name", w.name, "certificate", w.files.cert, "authorities", w.files.ca, "expires", m.expires())
}

// complain says what is wrong, once.
func (w *watcher) complain(what string, err error) {
	if w.failed == what {
		return
	}
	w.failed = what
	w.reloads.WithLabelValues(w.name, outcomeFailed).Inc()
	w.log.Error("TLS files have changed and cannot be used: the last good ones stay", "name", w.name, "error", err)
}

func (w *watcher) use(c content, m *material) {
	w.used, w.failed = c.sum(), ""
	w.swap(m)
	if m.cert == nil {
		return
	}
	w.expiry.WithLabelValues(w.name).Set(float64(m.expires().Unix()))
	// An expired certificate is better than none: some callers do not look, and
	// the others say clearly what is wrong.
	switch now := time.Now(); {
	case now.After(m.expires()):
		w.log.Warn("the TLS certificate has expired", "name", w.name, "certificate", w.files.cert, "expired", m.expires())
	case now.Before(m.cert.Leaf.NotBefore):
		w.log.Warn("the TLS certificate is not valid yet", "name", w.name, "certificate", w.files.cert, "from", m.cert.Leaf.NotBefore)
	}
}

// close ends the watching and waits for it. The last files stay in use.
func (w *watcher) close() {
	w.stop()
	<-w.done
}

// pairOf says that a certificate and its key go together.
func pairOf(cert, key string) error {
	if (cert == "") != (key == "") {
		return errors.New("cert_file and key_file go together")
	}
	return nil
}
