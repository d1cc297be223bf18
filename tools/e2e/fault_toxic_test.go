package e2e

import (
	"bytes"
	"encoding/json"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// wire is a toxiproxy between the gateway and a backend. It runs in this process;
// what is at its ends are processes of their own.
type wire struct {
	proxy *toxiproxy.Proxy
	addr  string // where the gateway finds the backend
}

// wireTo begins to listen for a backend. Connections can be reset by it: linger is
// set when a connection is made, and so a reset_peer must be there, if harmless,
// before it.
func wireTo(t *testing.T, backend string) *wire {
	t.Helper()
	quiet := zerolog.Nop()
	w := &wire{proxy: toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), quiet), t.Name(), "127.0.0.1:0", backend)}
	w.toxic(t, "linger", "reset_peer", 0, object{"timeout": 0})
	if err := w.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.down)
	w.addr = w.proxy.Listen
	return w
}

// toxic adds one to what comes from the backend, for a part of the connections.
func (w *wire) toxic(t *testing.T, name, kind string, toxicity float64, attributes object) {
	t.Helper()
	b, err := json.Marshal(object{"name": name, "type": kind, "stream": "downstream", "toxicity": toxicity, "attributes": attributes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.proxy.Toxics.AddToxicJson(bytes.NewReader(b)); err != nil {
		t.Fatal(kind, err)
	}
}

// add adds a toxic to all connections, those there are and those to come.
func (w *wire) add(t *testing.T, kind string, attributes object) {
	t.Helper()
	w.toxic(t, kind, kind, 1, attributes)
}

func (w *wire) remove(t *testing.T, kind string) {
	t.Helper()
	if err := w.proxy.Toxics.RemoveToxic(t.Context(), kind); err != nil {
		t.Fatal(kind, err)
	}
}

// resets switches reset_peer: while it is on, the next bytes of the backend on a
// connection are dropped, and the connection is reset in their place.
func (w *wire) resets(t *testing.T, on bool) {
	t.Helper()
	// toxiproxy changes a toxic's toxicity while its links read it: a race of its own.
	if on {
		w.toxic(t, "cut", "reset_peer", 1, object{"timeout": 0})
		return
	}
	w.remove(t, "cut")
}

// down refuses connections and resets those there are.
func (w *wire) down() { w.proxy.Stop() }

func (w *wire) up(t *testing.T) {
	t.Helper()
	if err := w.proxy.Start(); err != nil {
		t.Fatal(err)
	}
}
