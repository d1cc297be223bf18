package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const root = "../.."

// topology is what runs, by whoever describes it.
type topology struct {
	gateways int
	services map[string]int // processes of each
	stores   []string
}

// described is a program that somebody starts, with where its files are.
type described struct {
	name    string
	command []string
	env     map[string]string
	mounts  map[string]string // path in the container: directory or file here
	probes  []string          // paths that are asked at the admin port
}

// TestTheSameTopology holds docker-compose.yml and deploy/kubernetes against the
// cluster that the tests break.
func TestTheSameTopology(t *testing.T) {
	want := topology{gateways: len(cluster{}.gateways), services: map[string]int{}, stores: []string{"postgres", "redis"}}
	for _, s := range shop {
		want.services[s.short] = 2
	}
	check := func(name string, got topology) {
		t.Helper()
		if got.gateways != want.gateways || !maps.Equal(got.services, want.services) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		for _, s := range want.stores {
			if !slices.Contains(got.stores, s) {
				t.Errorf("%s has no %s", name, s)
			}
		}
	}
	compose := topology{services: map[string]int{}}
	for name, s := range readCompose(t).Services {
		switch kind, _, _ := strings.Cut(name, "-"); {
		case kind == "gateway":
			compose.gateways++
		case slices.Equal(s.Entrypoint, []string{"/shop"}):
			compose.services[kind]++
		default:
			compose.stores = append(compose.stores, name)
		}
	}
	check("docker-compose.yml", compose)
	if !slices.Contains(compose.stores, "etcd") {
		t.Error("docker-compose.yml has no etcd")
	}
	kubernetes := topology{services: map[string]int{}}
	for _, o := range readKubernetes(t, "demo").objects {
		switch name := o.Metadata.Name; {
		case o.Kind == "HorizontalPodAutoscaler":
			kubernetes.gateways = o.Spec.MinReplicas
		case o.Kind == "Deployment" && o.Spec.Template.Metadata.Labels["sluice/tier"] == "service":
			kubernetes.services[name] = o.Spec.Replicas
		case o.Kind == "Deployment" || o.Kind == "StatefulSet":
			kubernetes.stores = append(kubernetes.stores, name)
		}
	}
	check("deploy/kubernetes", kubernetes)
}

// TestTheProgramsTakeIt runs every program with the arguments, the files and the
// probes that stand in docker-compose.yml and deploy/kubernetes. What is not here is
// put in its place: databases, other machines, other ports.
func TestTheProgramsTakeIt(t *testing.T) {
	keys := t.TempDir()
	if out, err := exec.Command(filepath.Join(programs, "sluice"), "keys", "--out", keys).CombinedOutput(); err != nil {
		t.Fatalf("sluice keys: %v\n%s", err, out)
	}
	for _, d := range slices.Concat(composePrograms(t, keys), readKubernetes(t, "base").programs(t, keys)) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			switch d.command[0] {
			case "/shop":
				d.runsAsService(t)
			case "/sluice":
				d.runsAsGateway(t)
			default:
				t.Errorf("%s is no program of the image", d.command[0])
			}
		})
	}
}

// local is a path of the container's, here.
func (d described) local(t *testing.T, path string) string {
	t.Helper()
	for at, here := range d.mounts {
		if rest, found := strings.CutPrefix(path, at); found {
			return filepath.Join(here, rest)
		}
	}
	t.Fatalf("%s is mounted nowhere", path)
	return ""
}

// runsAsService starts a service with its arguments, on a database of its own, and
// waits until it is ready.
func (d described) runsAsService(t *testing.T) {
	args := slices.Clone(d.command[1:])
	value := func(flag string) *string {
		if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
			return &args[i+1]
		}
		t.Fatalf("no %s in %q", flag, args)
		return nil
	}
	if db, want := *value("--db"), "postgres:///shop_"+*value("--service"); db != want {
		t.Errorf("the database is %s, want %s", db, want)
	}
	*value("--db") = "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	*value("--addr") = "127.0.0.1:0"
	*value("--assertion-keys") = d.local(t, *value("--assertion-keys"))
	if i := slices.Index(args, "--etcd"); i >= 0 {
		if args[i+1] != "http://etcd:2379" {
			t.Errorf("etcd is %s", args[i+1])
		}
		args[i+1] = "http://127.0.0.1:1" // Away: it is announced later.
	}
	out := launch(t, nil, filepath.Join(programs, "shop"), args...)
	soon(t, func() error {
		if !strings.Contains(out.String(), " service ready on ") {
			return errors.New("not ready: " + out.String())
		}
		return nil
	})
}

// runsAsGateway starts a gateway with its arguments and configuration, and asks
// what its probes ask.
func (d described) runsAsGateway(t *testing.T) {
	args := slices.Clone(d.command[1:])
	i := slices.Index(args, "--config")
	raw, err := os.ReadFile(d.local(t, args[i+1]))
	if err != nil {
		t.Fatal(err)
	}
	config := string(raw)
	for at, here := range d.mounts {
		config = strings.ReplaceAll(config, at+"/", here+"/")
	}
	args[i+1] = filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(args[i+1], []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(programs, "sluice"), "config", "check", args[i+1]).CombinedOutput(); err != nil {
		t.Fatalf("sluice config check: %v\n%s", err, out)
	}
	ports := ports{given: map[string]bool{}}
	var addrs [3]string
	for i := range addrs {
		if addrs[i], err = ports.free(); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"SLUICE_HTTP_ADDR=" + addrs[0], "SLUICE_GRPC_ADDR=" + addrs[1], "SLUICE_ADMIN_ADDR=" + addrs[2], "SLUICE_DATA_DIR=" + t.TempDir()}
	out := launch(t, env, filepath.Join(programs, "sluice"), args...)
	for _, path := range append(d.probes, "/readyz", "/metrics") {
		soon(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if _, err := fetch(ctx, http.DefaultClient, "http://"+addrs[2]+path); err != nil {
				return errors.New(err.Error() + "\n" + out.String())
			}
			return nil
		})
	}
}

// launch starts a program, which is ended with the test.
func launch(t *testing.T, env []string, program string, args ...string) *tail {
	t.Helper()
	cmd := exec.Command(program, args...)
	out := &tail{}
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), t.TempDir(), out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return out
}

func soon(t *testing.T, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	if err := until(ctx, ask); err != nil {
		t.Fatal(err)
	}
}

// resolved is what the reader of manifests prints.
func resolved(t *testing.T, kind, path string) []byte {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, "manifests"), kind, path)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return out.Bytes()
}

// documents reads YAML documents into values of one type.
func documents[T any](t *testing.T, raw []byte) (out []T) {
	t.Helper()
	for dec := yaml.NewDecoder(bytes.NewReader(raw)); ; {
		var v T
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
}
