package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// composeFile is what of a Compose project is looked at.
type composeFile struct {
	Services map[string]struct {
		Entrypoint, Command []string
		Environment         map[string]string
		Volumes             []struct{ Type, Source, Target string }
		Ports               []struct {
			Target    int
			Published string
			HostIP    string `yaml:"host_ip"`
		}
		StopGracePeriod time.Duration       `yaml:"stop_grace_period"`
		DependsOn       map[string]struct{} `yaml:"depends_on"`
		Healthcheck     *struct{ Test []string }
	}
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	return documents[composeFile](t, resolved(t, "compose", filepath.Join(root, "docker-compose.yml")))[0]
}

// composePrograms are those of our image. Volumes that the keys container fills are
// the directory keys.
func composePrograms(t *testing.T, keys string) []described {
	t.Helper()
	var out []described
	for name, s := range readCompose(t).Services {
		d := described{name: "compose/" + name, command: slices.Concat(s.Entrypoint, s.Command), env: s.Environment, mounts: map[string]string{}}
		for _, v := range s.Volumes {
			d.mounts[v.Target] = map[string]string{"bind": v.Source, "volume": keys}[v.Type]
		}
		switch {
		case strings.HasPrefix(name, "gateway-"):
			d.command = append([]string{"/sluice"}, d.command...)
		case !slices.Equal(s.Entrypoint, []string{"/shop"}):
			continue
		}
		out = append(out, d)
	}
	if len(out) != 8 {
		t.Errorf("docker-compose.yml runs %d processes of ours, want 8", len(out))
	}
	return out
}

// TestCompose: what one service of docker-compose.yml says of another is so.
func TestCompose(t *testing.T) {
	c := readCompose(t)
	published := map[string]bool{}
	for name, s := range c.Services {
		for other := range s.DependsOn {
			if c.Services[other].Healthcheck == nil && other != "keys" && name != "grafana" {
				t.Errorf("%s waits until %s is healthy, which nobody asks", name, other)
			}
		}
		for _, p := range s.Ports {
			if published[p.Published] {
				t.Errorf("port %s is published twice", p.Published)
			}
			published[p.Published] = true
			if (p.Target == 9901 || name == "prometheus" || name == "grafana") && p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %d beyond loopback", name, p.Target)
			}
		}
		for _, v := range s.Volumes {
			if v.Type == "bind" {
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if i := slices.Index(s.Command, "--advertise"); i >= 0 {
			_, listens, _ := net.SplitHostPort(s.Command[slices.Index(s.Command, "--addr")+1])
			host, port, err := net.SplitHostPort(s.Command[i+1])
			if err != nil || host != name || port != listens {
				t.Errorf("%s announces itself as %s and listens on port %s: %v", name, s.Command[i+1], listens, err)
			}
		}
		if strings.HasPrefix(name, "gateway-") && s.StopGracePeriod < 25*time.Second {
			t.Errorf("%s is killed after %v, before it has drained", name, s.StopGracePeriod)
		}
	}
}

// TestPrometheusFindsTheGateways: every target of its configuration is a service and
// a port of docker-compose.yml, every gateway is a target.
func TestPrometheusFindsTheGateways(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "deploy/compose/prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	type file struct {
		ScrapeConfigs []struct {
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	var targets, want []string
	for _, s := range documents[file](t, raw)[0].ScrapeConfigs {
		for _, c := range s.StaticConfigs {
			targets = append(targets, c.Targets...)
		}
	}
	for name := range readCompose(t).Services {
		if strings.HasPrefix(name, "gateway-") {
			want = append(want, name+":9901")
		}
	}
	slices.Sort(targets)
	slices.Sort(want)
	if !slices.Equal(targets, want) {
		t.Errorf("%q, want %q", targets, want)
	}
}

// tail keeps what a program prints. Safe for concurrent use.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
