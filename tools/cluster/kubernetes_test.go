package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// object is what of a Kubernetes object is looked at.
type object struct {
	Kind     string
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Data map[string]string
	Spec struct {
		Replicas    int
		MinReplicas int    `yaml:"minReplicas"`
		ClusterIP   string `yaml:"clusterIP"`
		Selector    map[string]any
		Ports       []struct {
			Port       int
			TargetPort string `yaml:"targetPort"`
		}
		ScaleTargetRef struct{ Name string } `yaml:"scaleTargetRef"`
		Template       struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
	}
}

type pod struct {
	TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
	AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
	SecurityContext               struct {
		RunAsNonRoot bool `yaml:"runAsNonRoot"`
	} `yaml:"securityContext"`
	Containers []struct {
		Image         string
		Command, Args []string
		Ports         []port
		VolumeMounts  []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			SubPath   string `yaml:"subPath"`
		} `yaml:"volumeMounts"`
		StartupProbe    *probe `yaml:"startupProbe"`
		ReadinessProbe  *probe `yaml:"readinessProbe"`
		LivenessProbe   *probe `yaml:"livenessProbe"`
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			Capabilities             struct{ Drop []string }
		} `yaml:"securityContext"`
		EnvFrom []struct {
			SecretRef struct{ Name string } `yaml:"secretRef"`
		} `yaml:"envFrom"`
	}
	Volumes []struct {
		Name      string
		ConfigMap *struct{ Name string } `yaml:"configMap"`
		Secret    *struct {
			SecretName string `yaml:"secretName"`
		}
	}
}

type port struct {
	Name          string
	ContainerPort int `yaml:"containerPort"`
}

type probe struct {
	HTTPGet   *struct{ Path, Port string } `yaml:"httpGet"`
	GRPC      *struct{ Port int }          `yaml:"grpc"`
	TCPSocket *struct{ Port string }       `yaml:"tcpSocket"`
}

type kubernetes struct{ objects []object }

// readKubernetes builds one of the kustomizations, with keys that were made for it.
func readKubernetes(t *testing.T, name string) kubernetes {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "deploy/kubernetes"))); err != nil {
		t.Fatal(err)
	}
	if name == "demo" {
		keys := filepath.Join(dir, "demo/keys")
		if err := os.MkdirAll(keys, 0o700); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(filepath.Join(programs, "sluice"), "keys", "--out", keys).CombinedOutput(); err != nil {
			t.Fatalf("sluice keys: %v\n%s", err, out)
		}
	}
	return kubernetes{documents[object](t, resolved(t, "kustomize", filepath.Join(dir, name)))}
}

func (k kubernetes) get(kind, name string) *object {
	i := slices.IndexFunc(k.objects, func(o object) bool { return o.Kind == kind && o.Metadata.Name == name })
	if i < 0 {
		return nil
	}
	return &k.objects[i]
}

func (k kubernetes) deployments() []object {
	return slices.DeleteFunc(slices.Clone(k.objects), func(o object) bool { return o.Kind != "Deployment" })
}

// programs are those of our image. The placeholders of keys and passwords are
// replaced.
func (k kubernetes) programs(t *testing.T, keys string) []described {
	t.Helper()
	var out []described
	for _, o := range k.deployments() {
		p := o.Spec.Template.Spec
		c := p.Containers[0]
		d := described{name: "kubernetes/" + o.Metadata.Name, command: slices.Concat(c.Command, c.Args), mounts: map[string]string{}}
		if c.Command == nil {
			d.command = append([]string{"/sluice"}, c.Args...)
		}
		for _, m := range c.VolumeMounts {
			dir := t.TempDir()
			for _, v := range p.Volumes {
				switch {
				case v.Name != m.Name:
				case v.ConfigMap != nil && v.ConfigMap.Name == "sluice-assertion-public", v.Secret != nil && v.Secret.SecretName == "sluice-assertion":
					dir = keys
				case v.ConfigMap != nil:
					put(t, dir, k.get("ConfigMap", v.ConfigMap.Name).Data)
				case v.Secret != nil:
					put(t, dir, map[string]string{"password": "of a test"})
				}
			}
			d.mounts[m.MountPath] = dir
		}
		for _, p := range []*probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
			if p != nil && p.HTTPGet != nil {
				d.probes = append(d.probes, p.HTTPGet.Path)
			}
		}
		out = append(out, d)
	}
	if len(out) != 1+len(shop) {
		t.Errorf("the base has %d Deployments, want %d", len(out), 1+len(shop))
	}
	return out
}

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKubernetesHoldsTogether: names that one object says of another are there, in
// the demo, which has everything.
func TestKubernetesHoldsTogether(t *testing.T) {
	k := readKubernetes(t, "demo")
	labels := map[string]map[string]string{} // of pods
	named := map[string][]string{}           // their ports
	for _, o := range k.objects {
		if o.Kind != "Deployment" && o.Kind != "StatefulSet" {
			continue
		}
		name, c := o.Metadata.Name, o.Spec.Template.Spec.Containers[0]
		labels[name] = o.Spec.Template.Metadata.Labels
		for _, p := range c.Ports {
			named[name] = append(named[name], p.Name)
		}
		k.pod(t, name, o.Spec.Template.Spec)
	}
	for _, o := range k.objects {
		name := o.Metadata.Name
		switch o.Kind {
		case "Service":
			for key, value := range o.Spec.Selector {
				if labels[name][key] != value {
					t.Errorf("Service %s selects %s=%v, its pods have %v", name, key, value, labels[name])
				}
			}
			for _, p := range o.Spec.Ports {
				if !slices.Contains(named[name], p.TargetPort) {
					t.Errorf("Service %s: its pods have no port %q", name, p.TargetPort)
				}
			}
		case "HorizontalPodAutoscaler":
			if d := k.get("Deployment", o.Spec.ScaleTargetRef.Name); d == nil || d.Spec.Replicas != 0 {
				t.Errorf("%s is scaled, and is not there or says itself how many it is", o.Spec.ScaleTargetRef.Name)
			}
		}
	}
	for _, name := range append([]string{"gateway"}, slices.Collect(serviceNames)...) {
		pdb := k.get("PodDisruptionBudget", name)
		if pdb == nil || pdb.Spec.Selector["matchLabels"].(map[string]any)["app.kubernetes.io/name"] != name {
			t.Errorf("no disruption budget for %s", name)
		}
	}
}

func serviceNames(yield func(string) bool) {
	for _, s := range shop {
		if !yield(s.short) {
			return
		}
	}
}

// pod: it may do little, and what it mounts is there.
func (k kubernetes) pod(t *testing.T, name string, p pod) {
	t.Helper()
	c := p.Containers[0]
	if !p.SecurityContext.RunAsNonRoot || p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken ||
		c.SecurityContext.AllowPrivilegeEscalation == nil || *c.SecurityContext.AllowPrivilegeEscalation || !slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("%s may do more than it must", name)
	}
	for _, v := range p.Volumes {
		if v.ConfigMap != nil && k.get("ConfigMap", v.ConfigMap.Name) == nil || v.Secret != nil && k.get("Secret", v.Secret.SecretName) == nil {
			t.Errorf("%s: volume %s is of nothing", name, v.Name)
		}
	}
	for _, m := range c.VolumeMounts {
		if m.SubPath != "" {
			t.Errorf("%s: %s is mounted by itself, and never changes", name, m.MountPath)
		}
	}
	for _, from := range c.EnvFrom {
		if k.get("Secret", from.SecretRef.Name) == nil {
			t.Errorf("%s: no Secret %s", name, from.SecretRef.Name)
		}
	}
	if c.ReadinessProbe == nil {
		t.Errorf("%s has no readiness probe", name)
	}
	for _, probe := range []*probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		var at string
		switch {
		case probe == nil:
			continue
		case probe.HTTPGet != nil:
			at = probe.HTTPGet.Port
		case probe.GRPC != nil:
			at = strconv.Itoa(probe.GRPC.Port)
		case probe.TCPSocket != nil:
			at = probe.TCPSocket.Port
		default:
			continue // It runs a command.
		}
		if !slices.ContainsFunc(c.Ports, func(p port) bool { return p.Name == at || strconv.Itoa(p.ContainerPort) == at }) {
			t.Errorf("%s: a probe asks port %s, which it has not", name, at)
		}
	}
}

// TestKubernetesConfiguration: the gateways find their services by the names of
// headless Services, and are not killed while they drain.
func TestKubernetesConfiguration(t *testing.T) {
	k := readKubernetes(t, "base")
	type config struct {
		Admin     struct{ Addr string }
		Upstreams map[string]struct{ Target string }
		Shutdown  struct {
			NotReadyFor time.Duration `yaml:"not_ready_for"`
			Grace       time.Duration
		}
	}
	c := documents[config](t, []byte(k.get("ConfigMap", "sluice").Data["sluice.yaml"]))[0]
	for _, s := range shop {
		o := k.get("Service", s.short)
		if o == nil || o.Spec.ClusterIP != "None" {
			t.Errorf("%s has no headless Service", s.short)
			continue
		}
		port := strconv.Itoa(o.Spec.Ports[0].Port)
		if got, want := c.Upstreams[s.full].Target, "dns:///"+s.short+":"+port; got != want {
			t.Errorf("%s is called at %s, want %s", s.full, got, want)
		}
		// Without a cluster address the Service's port is the pod's.
		if args := k.get("Deployment", s.short).Spec.Template.Spec.Containers[0].Args; !slices.Contains(args, ":"+port) {
			t.Errorf("%s does not listen on %s: %q", s.short, port, args)
		}
	}
	p := k.get("Deployment", "gateway").Spec.Template.Spec
	if whole := time.Duration(p.TerminationGracePeriodSeconds) * time.Second; c.Shutdown.NotReadyFor == 0 || whole < c.Shutdown.NotReadyFor+c.Shutdown.Grace+5*time.Second {
		t.Errorf("a gateway is killed after %v; it drains for %v and %v", whole, c.Shutdown.NotReadyFor, c.Shutdown.Grace)
	}
	ports := map[string]string{"http": ":8080", "grpc": ":9090", "admin": c.Admin.Addr}
	for _, port := range p.Containers[0].Ports {
		if ports[port.Name] != ":"+strconv.Itoa(port.ContainerPort) {
			t.Errorf("port %s is %d, and the gateway listens on %s", port.Name, port.ContainerPort, ports[port.Name])
		}
		delete(ports, port.Name)
	}
	if len(ports) > 0 {
		t.Errorf("ports are missing: %v", slices.Collect(maps.Keys(ports)))
	}
}

// TestOneSchema: Compose and Kubernetes make the same databases.
func TestOneSchema(t *testing.T) {
	a, err := os.ReadFile(filepath.Join(root, "deploy/compose/databases.sql"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "deploy/kubernetes/demo/databases.sql"))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("deploy/compose/databases.sql and that of the demo differ: %v", err)
	}
}
