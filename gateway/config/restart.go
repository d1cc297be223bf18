package config

import (
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// restart are the keys that a running gateway cannot change: what listeners, servers
// and embedded services were built with.
var restart = []string{
	"admin.addr",
	"client_address.proxy_protocol",
	"data_dir",
	"databases",
	"grpc.addr", "grpc.idle_timeout", "grpc.max_call_time", "grpc.max_concurrent_streams", "grpc.max_connection_age", "grpc.max_connections",
	"grpc.max_connections_per_address", "grpc.max_message_bytes", "grpc.max_metadata_bytes", "grpc.reflection", "grpc.tls",
	"http.addr", "http.idle_timeout", "http.max_concurrent_streams", "http.max_connections", "http.max_connections_per_address",
	"http.max_header_bytes", "http.read_header_timeout", "http.tls",
}

// trustedProxies needs a restart where the listeners read PROXY protocol headers by
// it.
const trustedProxies = "client_address.trusted_proxies"

// Keep returns what a gateway that was started with one complete configuration can
// use of another: the next, with the values of the first where they need a restart.
// Those keys are named, in the order of the alphabet.
func Keep(first, next *configv1.Config) (effective *configv1.Config, keys []string) {
	effective = proto.CloneOf(next)
	all := restart
	if first.GetClientAddress().GetProxyProtocol() {
		all = append(all[:1:1], append([]string{trustedProxies}, all[1:]...)...)
	}
	for _, key := range all {
		if keep(first.ProtoReflect(), effective.ProtoReflect(), strings.Split(key, ".")) {
			keys = append(keys, key)
		}
	}
	// Its default is in the data directory, which stays.
	if first.GetDataDir() != next.GetDataDir() && next.GetAssertion().GetKeyFile() == filepath.Join(next.GetDataDir(), "assertion-key.pem") {
		effective.Assertion.KeyFile = filepath.Join(first.GetDataDir(), "assertion-key.pem")
	}
	return effective, keys
}

// keep copies one field, and says whether it was different.
func keep(from, to protoreflect.Message, path []string) bool {
	fd := from.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if len(path) > 1 {
		if !from.Has(fd) && !to.Has(fd) {
			return false
		}
		return keep(from.Get(fd).Message(), to.Mutable(fd).Message(), path[1:])
	}
	if from.Get(fd).Equal(to.Get(fd)) && from.Has(fd) == to.Has(fd) {
		return false
	}
	if from.Has(fd) {
		to.Set(fd, from.Get(fd))
	} else {
		to.Clear(fd)
	}
	return true
}

// needsRestart says whether a change of a key, as Diff names it, waits for the next
// start.
func needsRestart(key string, proxyProtocol bool) bool {
	for _, r := range restart {
		if under(key, r) {
			return true
		}
	}
	return proxyProtocol && under(key, trustedProxies)
}

func under(key, parent string) bool {
	rest, ok := strings.CutPrefix(key, parent)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
