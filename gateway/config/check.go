package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// override puts the environment over the file. A variable that is empty is as
// good as unset.
func override(c *configv1.Config, getenv func(string) string) error {
	c.Http, c.Grpc, c.Admin = orNew(c.Http), orNew(c.Grpc), orNew(c.Admin)
	var errs []error
	for _, v := range []struct {
		name  string
		to    *string
		check func(string) error
	}{
		{"SLUICE_HTTP_ADDR", &c.Http.Addr, checkAddr},
		{"SLUICE_GRPC_ADDR", &c.Grpc.Addr, checkAddr},
		{"SLUICE_ADMIN_ADDR", &c.Admin.Addr, checkAddr},
		{"SLUICE_DATA_DIR", &c.DataDir, checkDir},
	} {
		value := getenv(v.name)
		if value == "" {
			continue
		}
		if err := v.check(value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", v.name, err))
			continue
		}
		*v.to = value
	}
	return errors.Join(errs...)
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsAny(host, " \t\n/") {
		return fmt.Errorf("expected host:port with a port up to 65535, such as :8080 or 127.0.0.1:8080, got %q", mask(addr))
	}
	return nil
}

func checkDir(dir string) error {
	if len(dir) > 4096 || strings.Contains(dir, "\x00") {
		return errors.New("expected the path of a directory")
	}
	return nil
}

// crossCheck looks at what one value alone does not show. It wants a
// configuration that is complete.
func (f *file) crossCheck(c *configv1.Config) {
	f.crossCheckAddrs(c)
	f.crossCheckEdge(c)
	f.crossCheckAuth(c)
	f.crossCheckLimits(c)
	f.crossCheckTraffic(c)
}

// at adds a problem with the value at a path.
func (f *file) at(path []any, format string, args ...any) {
	line, column := f.locate(path...)
	f.addf(line, column, format, args...)
}

// unknown adds that the name at a path is none of those known.
func (f *file) unknown(what, name string, known []string, path []any) {
	line, column := f.locate(path...)
	f.problems = append(f.problems, problem{line, column, unknown(what, name, known)})
}

// crossCheckAddrs finds listeners that would be in each other's way. An address
// without a host takes its port on every host; port 0 is any free one.
func (f *file) crossCheckAddrs(c *configv1.Config) {
	listeners := []struct{ key, addr string }{{"http", c.GetHttp().GetAddr()}, {"grpc", c.GetGrpc().GetAddr()}, {"admin", c.GetAdmin().GetAddr()}}
	for i, l := range listeners {
		if err := checkAddr(l.addr); err != nil {
			line, column := f.locate(l.key, "addr")
			f.addf(line, column, "%s.addr: %v", l.key, err)
			continue
		}
		for _, other := range listeners[:i] {
			if clash(l.addr, other.addr) {
				line, column := f.locate(l.key, "addr")
				f.addf(line, column, "%s.addr %s and %s.addr %s are the same address", l.key, l.addr, other.key, other.addr)
				break
			}
		}
	}
}

func clash(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	numA, _ := strconv.Atoi(portA) // What is no number was told already.
	numB, _ := strconv.Atoi(portB)
	if errA != nil || errB != nil || numA != numB || numA == 0 {
		return false
	}
	every := func(host string) bool { return host == "" || net.ParseIP(host).IsUnspecified() }
	return strings.EqualFold(hostA, hostB) || every(hostA) || every(hostB)
}

// locate finds the place of a value: keys are strings, positions in lists ints.
// Where it is not in the file (a default, the environment) the nearest parent
// stands for it.
func (f *file) locate(path ...any) (line, column int) {
	n := f.root
	if n == nil {
		return 0, 0
	}
	line, column = n.Line, n.Column
	for _, step := range path {
		if n = child(n, step); n == nil {
			break
		}
		line, column = n.Line, n.Column
	}
	return line, column
}

func child(n yamlNode, step any) yamlNode {
	value, _ := entry(n, fmt.Sprint(step))
	return value
}

// camel is the JSON name of a field.
func camel(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}
