package announce_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"github.com/sluice-gateway/sluice/services/kit/announce"
	"github.com/sluice-gateway/sluice/tools/etcdtest"
)

// addrs are the addresses that are announced now.
func addrs(t *testing.T, client *clientv3.Client, target string) []string {
	t.Helper()
	m, err := endpoints.NewManager(client, target)
	if err != nil {
		t.Fatal(err)
	}
	all, err := m.List(t.Context())
	if err != nil {
		return []string{err.Error()}
	}
	out := []string{}
	for _, e := range all {
		out = append(out, e.Addr)
	}
	slices.Sort(out)
	return out
}

func await(t *testing.T, client *clientv3.Client, target string, want ...string) {
	t.Helper()
	var got []string
	for range 600 {
		if got = addrs(t, client, target); slices.Equal(got, want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("announced are %q, want %q", got, want)
}

func connect(t *testing.T, addr string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + addr}, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestAnnounce(t *testing.T) {
	addr, stop := etcdtest.Start(t, t.TempDir(), "")
	client, target := connect(t, addr), announce.DefaultPrefix+"shop.T"
	var made []*announce.Announcement
	for _, at := range []string{"127.0.0.1:1", "127.0.0.1:2"} {
		a, err := announce.Announce(announce.Options{Endpoints: []string{"http://" + addr}, Name: "shop.T", Addr: at, TTL: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
		made = append(made, a)
	}
	await(t, client, target, "127.0.0.1:1", "127.0.0.1:2")

	if err := made[0].Close(); err != nil { // Says goodbye at once.
		t.Fatal(err)
	}
	if got := addrs(t, client, target); !slices.Equal(got, []string{"127.0.0.1:2"}) {
		t.Fatalf("after Close: %q", got)
	}

	// The lease is lost, as it is while etcd cannot be reached for longer than it.
	leases, err := client.Leases(t.Context())
	if err != nil || len(leases.Leases) == 0 {
		t.Fatal("no lease", err)
	}
	for _, l := range leases.Leases {
		if _, err := client.Revoke(t.Context(), l.ID); err != nil {
			t.Fatal(err)
		}
	}
	await(t, client, target, "127.0.0.1:2")

	// etcd goes away, and comes back with nothing in it.
	stop()
	etcdtest.Start(t, t.TempDir(), addr)
	await(t, connect(t, addr), target, "127.0.0.1:2")
}

// Without an etcd the process goes on, and Close ends.
func TestNoEtcd(t *testing.T) {
	a, err := announce.Announce(announce.Options{Endpoints: []string{"http://127.0.0.1:1"}, Name: "shop.T", Addr: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Close() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the entry could not be taken away, and Close says nothing")
		}
	case <-time.After(time.Minute):
		t.Fatal("Close does not end")
	}
}

func TestBadOptions(t *testing.T) {
	for _, tc := range []struct {
		o    announce.Options
		want string
	}{
		{announce.Options{Name: "a", Addr: "b:1"}, "no etcd endpoints"},
		{announce.Options{Endpoints: []string{"http://a"}, Addr: "b:1"}, "name and address are needed"},
		{announce.Options{Endpoints: []string{"http://a"}, Name: "a"}, "name and address are needed"},
	} {
		if _, err := announce.Announce(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v", tc.o, err)
		}
	}
}
