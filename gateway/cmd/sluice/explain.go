package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/grpclog"

	"github.com/sluice-gateway/sluice/gen/openapi"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// explain says what would happen to a request, and why. Nothing is sent.
func explain(args []string) error { return printExplanation(args, os.Stdin, os.Stdout) }

const explainUsage = `usage: sluice explain METHOD PATH [flags]            such as GET /v1/users/ada
       sluice explain PACKAGE.SERVICE/METHOD [flags]   a gRPC call, its message in --data
Give --token and --api-key as @FILE or - (standard input): others on this machine can read command lines`

// explainFlags are what the command line says beside the request.
type explainFlags struct {
	file, format, data, from, token, key string
	subject, scope, tenant, issuer       string
	demo                                 bool
	header                               []gateway.Header
}

func printExplanation(args []string, in io.Reader, out io.Writer) error {
	words := 0 // The request comes first, for it is what one types.
	for words < len(args) && !strings.HasPrefix(args[words], "-") {
		words++
	}
	var v explainFlags
	f := v.set()
	if err := f.Parse(args[words:]); err != nil {
		return quiet(err)
	}
	req, err := v.request(append(args[:words:words], f.Args()...))
	if err != nil {
		return err
	}
	if req.Token, req.APIKey, err = v.credentials(in); err != nil {
		return err
	}
	// What grpc-go would print is answered by us.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	cfg, err := config.Load(v.file, os.Getenv)
	if err != nil {
		return err
	}
	e, err := gateway.Explain(context.Background(), cfg, req, gateway.WithServices(shop.Services()...), gateway.WithHTTPServices(shop.HTTPServices()...), gateway.WithDocs("Sluice shop API", openapi.Document))
	if err != nil {
		return config.Locate(v.file, err)
	}
	if v.format == "text" {
		return e.WriteText(out)
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(e)
}

func (v *explainFlags) set() *flag.FlagSet {
	f := newFlags("explain")
	f.StringVar(&v.file, "config", os.Getenv("SLUICE_CONFIG"), "configuration `FILE` (SLUICE_CONFIG)")
	f.StringVar(&v.format, "format", "text", "text or json")
	f.StringVar(&v.data, "data", "", "body, or the `JSON` form of the gRPC request")
	f.StringVar(&v.from, "from", "127.0.0.1", "`ADDRESS` the connection comes from")
	f.StringVar(&v.token, "token", "", "bearer `TOKEN`, verified as always: @FILE, - for standard input, or itself, where nobody else reads command lines")
	f.StringVar(&v.key, "api-key", "", "API `KEY`, verified as always; @FILE or - as for --token")
	f.BoolVar(&v.demo, "demo", false, "accept tokens of 'sluice token', as serve --demo does")
	f.StringVar(&v.subject, "subject", "", "assume a caller of this `NAME`, without a credential")
	f.StringVar(&v.scope, "scope", "", "scopes of the assumed caller, separated by spaces")
	f.StringVar(&v.tenant, "tenant", "", "tenant of the assumed caller")
	f.StringVar(&v.issuer, "issuer", "explain", "issuer of the assumed caller")
	f.Func("H", "header `'Name: value'`, or metadata; may be repeated. Credentials go to --token and --api-key", func(line string) error {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return errors.New("a header has a name, a colon and a value")
		}
		v.header = append(v.header, gateway.Header{Name: name, Value: strings.TrimSpace(value)})
		return nil
	})
	return f
}

// credentials reads the token and the API key from where they stand.
func (v *explainFlags) credentials(in io.Reader) (token, key string, err error) {
	if v.token == "-" && v.key == "-" {
		return "", "", errors.New("--token and --api-key cannot both be read from standard input")
	}
	if token, err = credential(v.token, in); err != nil {
		return "", "", fmt.Errorf("--token: %w", err)
	}
	if key, err = credential(v.key, in); err != nil {
		return "", "", fmt.Errorf("--api-key: %w", err)
	}
	return token, key, nil
}

const maxCredential = 64 << 10 // Bytes that are read of a file.

// credential reads @FILE or - without the white space around it; anything else is
// the credential. Command lines are no place for one: /proc shows them to all.
func credential(value string, in io.Reader) (string, error) {
	if path, ok := strings.CutPrefix(value, "@"); ok {
		f, err := os.Open(path) //nolint:gosec // Whoever calls names the file.
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }() // Only read.
		in = f
	} else if value != "-" {
		return value, nil
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxCredential+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(raw))
	switch {
	case len(raw) > maxCredential:
		return "", fmt.Errorf("more than %d bytes", maxCredential)
	case text == "":
		return "", errors.New("there is nothing in it")
	}
	return text, nil
}

// request is what is asked to be explained.
func (v *explainFlags) request(words []string) (gateway.ExplainRequest, error) {
	req := gateway.ExplainRequest{Data: v.data, Header: v.header, Demo: v.demo}
	switch {
	case len(words) == 2 && strings.HasPrefix(words[1], "/"):
		req.Method, req.Target = words[0], words[1]
	case len(words) == 1 && strings.Count(strings.TrimPrefix(words[0], "/"), "/") == 1:
		req.RPC = strings.TrimPrefix(words[0], "/")
	default:
		return req, errors.New(explainUsage)
	}
	if v.format != "text" && v.format != "json" {
		return req, fmt.Errorf("--format is text or json, not %q", v.format)
	}
	var err error
	if req.From, err = netip.ParseAddr(v.from); err != nil {
		return req, fmt.Errorf("--from: %w", err)
	}
	if v.subject == "" {
		if v.scope != "" || v.tenant != "" {
			return req, errors.New("--scope and --tenant are of the caller that --subject names")
		}
		return req, nil
	}
	p := policy.NewPrincipal(v.subject, v.issuer, strings.Fields(v.scope), time.Time{})
	p.Tenant = v.tenant
	req.Assume = p
	return req, nil
}
