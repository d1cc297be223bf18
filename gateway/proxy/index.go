package proxy

import (
	"errors"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/route"
)

// routeIndex finds routes by host and path, so that a request costs what its path and the
// prefixes are long, and not how many routes there are. The first route that matches counts, in the order of the
// configuration: the index only says which ones are worth comparing, matcher.takes decides. It
// does not change once it is made.
type routeIndex struct {
	routes  []*compiled
	anyHost pathIndex
	// hosts are the routes that name one: exact names, and `.name` for subdomains.
	hosts map[string]*pathIndex
}

// pathIndex has routes by the form of their path. Its lists are places among the routes, in
// ascending order.
type pathIndex struct {
	exact, prefix map[string][]int32
	// longest is the length of the longest prefix: what a path has behind it is not looked
	// up, for each look costs what the part before is long.
	longest   int
	templates route.Index[*[]int32]
	// shapes are the lists of templates by the text of the first that has their shape.
	shapes map[string]*[]int32
	// regexes are compared one after another: nothing can be said about them before.
	regexes []int32
}

// add adds a route behind those that are there.
func (x *routeIndex) add(c *compiled) error {
	place := int32(len(x.routes))
	x.routes = append(x.routes, c)
	if len(c.matcher.hosts) == 0 {
		return x.anyHost.add(c.matcher, place)
	}
	for _, host := range c.matcher.hosts {
		p := x.hosts[host]
		if p == nil {
			if x.hosts == nil {
				x.hosts = map[string]*pathIndex{}
			}
			p = &pathIndex{}
			x.hosts[host] = p
		}
		if err := p.add(c.matcher, place); err != nil {
			return err
		}
	}
	return nil
}

func (p *pathIndex) add(m *matcher, place int32) error {
	if p.exact == nil {
		p.exact, p.prefix, p.shapes = map[string][]int32{}, map[string][]int32{}, map[string]*[]int32{}
	}
	switch {
	case m.byPrefix:
		p.prefix[m.prefix], p.longest = append(p.prefix[m.prefix], place), max(p.longest, len(m.prefix))
	case m.template != nil:
		list := &[]int32{place}
		err := p.templates.Add(templateMethod, m.parsed, list)
		var taken *route.CollisionError
		switch {
		case errors.As(err, &taken): // Hosts, methods and headers tell the two apart.
			list = p.shapes[taken.Taken.String()]
			*list = append(*list, place)
		case err != nil:
			return err
		default:
			p.shapes[m.parsed.String()] = list
		}
	case m.regex != nil:
		p.regexes = append(p.regexes, place)
	default:
		p.exact[m.exact] = append(p.exact[m.exact], place)
	}
	return nil
}

// find returns the first route that takes a request, or nil.
func (x *routeIndex) find(r *http.Request, method, path string) *compiled {
	if len(x.routes) == 0 {
		return nil
	}
	host, first := hostOf(r), int32(len(x.routes))
	x.candidates(host, path, func(list []int32) {
		for _, place := range list {
			if place >= first {
				return
			}
			if m := x.routes[place].matcher; m.takesMethod(method) && m.takes(r, host, path) {
				first = place
			}
		}
	})
	if int(first) == len(x.routes) {
		return nil
	}
	return x.routes[first]
}

// methods are those of all routes that take a request whatever its method, unsorted.
func (x *routeIndex) methods(r *http.Request, path string) (out []string) {
	host := hostOf(r)
	x.candidates(host, path, func(list []int32) {
		for _, place := range list {
			if m := x.routes[place].matcher; m.takes(r, host, path) {
				out = append(out, m.methods...)
			}
		}
	})
	return out
}

// candidates visits the lists that hold every route that takes the host and the path, and
// few others.
func (x *routeIndex) candidates(host, path string, visit func(list []int32)) {
	x.anyHost.candidates(path, visit)
	if len(x.hosts) == 0 {
		return
	}
	if p := x.hosts[host]; p != nil {
		p.candidates(path, visit)
	}
	for i := 1; i < len(host); i++ {
		if host[i] != '.' {
			continue
		}
		if p := x.hosts[host[i:]]; p != nil {
			p.candidates(path, visit)
		}
	}
}

func (p *pathIndex) candidates(path string, visit func(list []int32)) {
	if list := p.exact[path]; list != nil {
		visit(list)
	}
	if len(p.prefix) > 0 {
		p.prefixes(path, visit)
	}
	if len(p.shapes) > 0 {
		p.templates.Each(templateMethod, path, func(list *[]int32) { visit(*list) })
	}
	if p.regexes != nil {
		visit(p.regexes)
	}
}

// prefixes looks up the path and every part of it that ends before a slash.
func (p *pathIndex) prefixes(path string, visit func(list []int32)) {
	for end := 0; end <= len(path); end++ {
		slash := strings.IndexByte(path[end:], '/')
		if slash < 0 {
			end = len(path)
		} else {
			end += slash
		}
		if end > p.longest {
			return
		}
		if list := p.prefix[path[:end]]; list != nil {
			visit(list)
		}
	}
}
