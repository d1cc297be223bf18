// Command manifests reads what describes Sluice's topology to others, as strictly as
// they do, and prints it resolved:
//
//	manifests compose docker-compose.yml      the project, as docker compose config prints it
//	manifests kustomize deploy/kubernetes/base    the objects, as kubectl kustomize prints them
//
// It is a module of its own: these dependencies are nothing to the product's.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("want compose FILE or kustomize DIR")
	}
	read := map[string]func(string) ([]byte, error){"compose": compose, "kustomize": kustomize}[args[0]]
	if read == nil {
		return fmt.Errorf("no command %q: want compose or kustomize", args[0])
	}
	resolved, err := read(args[1])
	if err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	_, err = out.Write(resolved)
	return err
}

// compose holds a file to the Compose specification.
func compose(file string) ([]byte, error) {
	options, err := cli.NewProjectOptions([]string{file})
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalYAML()
}

// kustomize builds a directory, and holds each object to its type.
func kustomize(dir string) ([]byte, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, err
	}
	all, err := built.AsYaml()
	if err != nil {
		return nil, err
	}
	return all, strict(all)
}

// strict refuses kinds and fields that Kubernetes does not know.
func strict(all []byte) error {
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, autoscalingv2.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(types); err != nil {
			return err
		}
	}
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(all)))
	defer func() { _ = documents.Close() }()
	var errs []error
	for document := make([]byte, len(all)); ; {
		n, err := documents.Read(document)
		if errors.Is(err, io.EOF) {
			return errors.Join(errs...)
		}
		if err != nil {
			return err
		}
		if _, _, err := decoder.Decode(document[:n], nil, nil); err != nil {
			errs = append(errs, err)
		}
	}
}
