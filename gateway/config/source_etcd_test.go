package config

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/tools/etcdtest"
)

// TestEtcdKeyIsFollowed through changes, the loss of the key, and an etcd that is
// away for a while.
func TestEtcdKeyIsFollowed(t *testing.T) {
	dir := t.TempDir()
	addr, stop := etcdtest.Start(t, dir, "")
	s, err := openEtcd("etcd://"+addr+"/sluice/config", nothing)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	if _, err := s.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "no such key") {
		t.Fatalf("a key that is not there: %v", err)
	}
	write := func(text string) {
		t.Helper()
		_, err := s.client.Put(t.Context(), s.key, text)
		must(t, err)
	}
	write(string(level("info")))
	_, err = s.Load(t.Context())
	must(t, err)
	c := follow(t, s)
	write(string(level("debug")))
	c.becomes(t, "debug")
	write("log: {level: loud}")
	c.becomes(t, "error")
	write(string(level("warn")))
	c.becomes(t, "warn")
	_, err = s.client.Delete(t.Context(), s.key)
	must(t, err)
	c.becomes(t, "error")
	write(string(level("warn")))
	c.becomes(t, "warn")

	stop()
	etcdtest.Start(t, dir, addr)
	write(string(level("debug")))
	c.becomes(t, "debug")
}

// TestEtcdAddresses are refused with what to write, and never with a secret.
func TestEtcdAddresses(t *testing.T) {
	for name, want := range map[string]string{
		"etcd://":                             "want etcd://host:2379/key",
		"etcd://h:2379":                       "want etcd://host:2379/key",
		"etcd://u:hunter2@h:2379/k":           "password_file",
		"etcd://h:2379/k?password=hunter2":    "unknown parameter",
		"etcd://h:2379/k?ca_file=x":           "need etcds://",
		"etcds://h:2379/k?ca_file=/none/x":    "no such file",
		"etcds://h:2379/k?cert_file=/x":       "go together",
		"etcd://h:2379/k?username=a&username": "comes 2 times",
	} {
		_, err := openEtcd(name, nothing)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzEtcdAddress: whatever stands there is an error or a client.
func FuzzEtcdAddress(f *testing.F) {
	for _, name := range []string{"etcd://h:2379/k", "etcds://a:1,b:2/x/y?server_name=z", "etcd://[::1]:2379/k?x=%zz", "etcd://:@/"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !inEtcd(name) || strings.Contains(name, "_file") { // Files of this machine are not looked at.
			return
		}
		if s, err := openEtcd(name, nothing); err == nil {
			must(t, s.Close())
		}
	})
}
