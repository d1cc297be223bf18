package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// token prints a token of the development key, which a gateway running with
// --demo in the same data directory accepts.
func token(args []string) error {
	f := newFlags("token")
	subject := f.String("subject", "", "`NAME` the token speaks for, such as ada")
	scope := f.String("scope", "", "scopes, separated by spaces; admin stands for all")
	ttl := f.Duration("ttl", time.Hour, "how long the token is good for")
	file := f.String("config", os.Getenv("SLUICE_CONFIG"), "configuration `FILE`, for its data_dir")
	if err := parse(f, args); err != nil {
		return quiet(err)
	}
	if *subject == "" {
		return errors.New("token needs --subject NAME")
	}
	cfg, err := config.Load(*file, os.Getenv)
	if err != nil {
		return err
	}
	key, err := auth.OpenDevKey(cfg.GetDataDir())
	if err != nil {
		return err
	}
	t, err := key.Mint(*subject, strings.Fields(*scope), *ttl)
	if err != nil {
		return err
	}
	fmt.Println(t)
	return nil
}

// keys makes the key pair of the assertions where there is none, so that
// services can be given the public half before the gateway first starts.
func keys(args []string) error {
	f := newFlags("keys")
	out := f.String("out", "", "`DIR` for assertion-key.pem and assertion-key.pub.pem (default: the data directory)")
	public := f.String("public", "", "second `DIR` for the public half alone, to share with services")
	if err := parse(f, args); err != nil {
		return quiet(err)
	}
	dir := *out
	if dir == "" {
		cfg, err := config.Load(os.Getenv("SLUICE_CONFIG"), os.Getenv)
		if err != nil {
			return err
		}
		dir = cfg.GetDataDir()
	}
	file := filepath.Join(dir, "assertion-key.pem")
	if _, err := auth.OpenSigner(file, time.Minute); err != nil {
		return err
	}
	fmt.Println(file)
	half := filepath.Join(dir, "assertion-key.pub.pem")
	if *public == "" {
		fmt.Println(half)
		return nil
	}
	pem, err := os.ReadFile(half)
	if err != nil {
		return err
	}
	half = filepath.Join(*public, "assertion-key.pub.pem")
	fmt.Println(half)
	return os.WriteFile(half, pem, 0o644) //nolint:gosec // public by its nature
}

func configCheck(args []string) error {
	names, err := parseNames(newFlags("config check"), args)
	if err != nil {
		return quiet(err)
	}
	if len(names) != 1 || names[0] == "" {
		return errors.New("usage: sluice config check FILE")
	}
	cfg, err := config.Load(names[0], func(string) string { return "" })
	if err != nil {
		return err
	}
	if err := gateway.Check(cfg, gateway.WithServices(shop.Services()...), gateway.WithHTTPServices(shop.HTTPServices()...)); err != nil {
		return config.Locate(names[0], err)
	}
	fmt.Println(names[0] + ": ok")
	return nil
}

func version(args []string) error {
	if err := parse(newFlags("version"), args); err != nil {
		return quiet(err)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("built without build information")
	}
	revision := "unknown"
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	fmt.Printf("sluice %s (%s, %s)\n", info.Main.Version, revision, info.GoVersion)
	return nil
}
