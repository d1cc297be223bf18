package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Schemes of a Target.
const (
	Static = "static"
	DNS    = "dns"
	Etcd   = "etcd"
	Consul = "consul"
	XDS    = "xds"
)

// Target is where a service is looked up.
type Target struct {
	// Scheme is how: one of the constants above.
	Scheme string
	// Name is the host of Static and DNS, and the name of the service of the others:
	// also whom a certificate must name, and the authority of calls.
	Name string
	// Port is that of DNS.
	Port string
	// Addr is where Static is: host:port or unix:path.
	Addr string
	// Tag narrows Consul to the instances that have it; empty means all.
	Tag string
}

// How it is written, for errors.
const targetForms = "write host:port, dns:///name:port, unix:path, etcd:///name, consul:///name?tag=v2 or xds:///name"

// ParseTarget reads a target. host:port is looked up in DNS, unless the host is an
// address. passthrough:///host:port is host:port left to the operating system.
func ParseTarget(s string) (Target, error) {
	bad := func(why string) (Target, error) {
		return Target{}, fmt.Errorf("target %q: %s: %s", s, why, targetForms)
	}
	if s == "" {
		return bad("is empty")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return bad("holds a space or a control character")
	}
	scheme, rest, _ := strings.Cut(s, ":")
	switch scheme {
	case "unix", "unix-abstract":
		if strings.Trim(rest, "/") == "" {
			return bad("has no path")
		}
		return Target{Scheme: Static, Name: "localhost", Addr: s}, nil
	case "dns", "passthrough", Etcd, Consul, XDS:
		path, ok := strings.CutPrefix(rest, "///")
		if !ok && scheme == "dns" && !strings.HasPrefix(rest, "/") {
			path, ok = rest, strings.Contains(rest, ":") // dns:name:port, as gRPC has it; dns:53 is host:port.
		}
		if ok {
			return parsePath(s, scheme, path, bad)
		}
		if strings.HasPrefix(rest, "/") {
			return bad("needs three slashes after " + scheme + ":")
		}
	}
	if strings.Contains(s, "/") {
		return bad("has an unknown scheme or a path")
	}
	return parseHostPort(s, bad)
}

func parsePath(s, scheme, path string, bad func(string) (Target, error)) (Target, error) {
	switch scheme {
	case "dns":
		return parseHostPort(path, bad)
	case "passthrough":
		host, _, err := net.SplitHostPort(path)
		if err != nil {
			return bad("is not host:port after passthrough:///")
		}
		return Target{Scheme: Static, Name: host, Addr: path}, nil
	case XDS:
		if path == "" {
			return bad("has no name")
		}
		return Target{Scheme: XDS, Name: path}, nil
	}
	name, query, _ := strings.Cut(path, "?")
	t := Target{Scheme: scheme, Name: name}
	values, err := url.ParseQuery(query)
	if err != nil {
		return bad("has a query that cannot be read")
	}
	for k, v := range values {
		if scheme != Consul || k != "tag" || len(v) != 1 || v[0] == "" {
			return bad("has a parameter that means nothing here; only consul:/// has one, tag")
		}
		t.Tag = v[0]
	}
	if !validName(name, scheme == Etcd) {
		return bad("has no name of a service: letters, digits, '.', '-', '_'" + map[bool]string{true: " and single '/'"}[scheme == Etcd])
	}
	return t, nil
}

// validName keeps what becomes a key or a path from meaning another one.
func validName(name string, slashes bool) bool {
	if len(name) > 253 {
		return false
	}
	for _, part := range strings.Split(name, "/") {
		if part == "" || part == "." || part == ".." || (part != name && !slashes) {
			return false
		}
		for _, r := range part {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}

func parseHostPort(s string, bad func(string) (Target, error)) (Target, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return bad("is not host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("has no port from 1 to 65535")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return Target{Scheme: Static, Name: host, Addr: net.JoinHostPort(host, port)}, nil
	}
	if !validName(host, false) {
		return bad("has a host that is neither a name nor an address")
	}
	return Target{Scheme: DNS, Name: host, Port: port}, nil
}

// ParseEndpoint reads the address of one backend: host:port, which the operating
// system looks up when it connects, or unix:path.
func ParseEndpoint(s string) (Target, error) {
	t, err := ParseTarget(s)
	switch {
	case err != nil:
		return t, err
	case t.Scheme == DNS && !strings.Contains(s, "/"):
		return Target{Scheme: Static, Name: t.Name, Addr: net.JoinHostPort(t.Name, t.Port)}, nil
	case t.Scheme == Static && !strings.HasPrefix(s, "passthrough:"):
		return t, nil
	}
	return Target{}, fmt.Errorf("endpoint %q: must be host:port or unix:path", s)
}
