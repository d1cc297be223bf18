// Walk prints the files that one request runs through, with how many statements of each it
// runs: what a reader has to open to follow it. It starts a whole gateway with the demo shop in
// this process, clears the counters of coverage, asks once, and reads them:
//
//	make walk
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/coverage"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

const module = "github.com/sluice-gateway/sluice/"

func main() {
	path := flag.String("path", "/v1/users/ada", "what to GET, as ada with every scope of the shop")
	flag.Parse()
	if err := walk(*path, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "walk:", err)
		os.Exit(1)
	}
}

func walk(path string, out io.Writer) error {
	dir, err := os.MkdirTemp("", "walk")
	if err != nil {
		return fmt.Errorf("a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := record(path, dir); err != nil {
		return err
	}
	profile := filepath.Join(dir, "profile")
	if b, err := exec.Command("go", "tool", "covdata", "textfmt", "-i", dir, "-o", profile).CombinedOutput(); err != nil { //nolint:noctx // It is over in a moment.
		return fmt.Errorf("go tool covdata: %w\n%s", err, b)
	}
	files, err := count(profile)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	gateways := 0
	for name := range files {
		names = append(names, name)
		if strings.HasPrefix(name, "gateway/") {
			gateways++
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if _, err := fmt.Fprintf(out, "%4d  %s\n", files[name], name); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	_, err = fmt.Fprintf(out, "GET %s runs through %d files, %d of them below gateway/\n", path, len(files), gateways)
	return err //nolint:wrapcheck // Of standard output.
}

// record runs a gateway, and leaves in dir what one request has run.
func record(path, dir string) error {
	env := map[string]string{"SLUICE_HTTP_ADDR": "127.0.0.1:0", "SLUICE_GRPC_ADDR": "127.0.0.1:0", "SLUICE_ADMIN_ADDR": "127.0.0.1:0", "SLUICE_DATA_DIR": filepath.Join(dir, "data")}
	cfg, err := config.Load("", func(name string) string { return env[name] })
	if err != nil {
		return fmt.Errorf("the configuration: %w", err)
	}
	ready := make(chan struct{})
	g, err := gateway.New(cfg, gateway.WithDemo(), gateway.WithServices(shop.Services()...),
		gateway.WithLogger(slog.New(slog.NewJSONHandler(io.Discard, nil))), gateway.OnReady(func(*gateway.Gateway) { close(ready) }))
	if err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		return fmt.Errorf("the gateway: %w", err)
	}
	if err := ask(g, path, dir); err != nil {
		return err
	}
	cancel()
	return <-ended
}

// ask makes the request. What begins once the gateway serves has had a moment to begin.
func ask(g *gateway.Gateway, path, dir string) error {
	token, err := g.DevKey().Mint("ada", []string{"users.read", "orders.read", "admin"}, time.Hour)
	if err != nil {
		return fmt.Errorf("a token: %w", err)
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+g.Addrs().HTTP+path, http.NoBody) //nolint:noctx // The program ends with it.
	if err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	time.Sleep(200 * time.Millisecond)
	if err := coverage.ClearCounters(); err != nil {
		return fmt.Errorf("build with -cover -covermode=atomic: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	_, err = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s %w", path, res.Status, err)
	}
	time.Sleep(20 * time.Millisecond) // For what is done after the answer: counting, the log.
	if err := coverage.WriteMetaDir(dir); err != nil {
		return fmt.Errorf("coverage: %w", err)
	}
	return coverage.WriteCountersDir(dir) //nolint:wrapcheck // It says what it is about.
}

// count reads a profile: for each file, the statements that have run.
func count(profile string) (map[string]int, error) {
	f, err := os.Open(profile)
	if err != nil {
		return nil, err //nolint:wrapcheck // It names the file.
	}
	defer func() { _ = f.Close() }()
	files := map[string]int{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		block, times, _ := strings.Cut(lines.Text(), " ") // name.go:1.2,3.4 statements times
		name, _, ok := strings.Cut(block, ":")
		statements, runs, _ := strings.Cut(times, " ")
		n, err := strconv.Atoi(statements)
		if !ok || err != nil || runs == "0" || strings.HasPrefix(name, module+"tools/walk/") {
			continue
		}
		files[strings.TrimPrefix(name, module)] += n
	}
	return files, lines.Err() //nolint:wrapcheck // Of a file of ours.
}
