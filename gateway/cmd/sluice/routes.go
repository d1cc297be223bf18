package main

import (
	"fmt"
	"io"
	"os"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// routes prints every route with its rule and limits. It needs no issuer, no
// database and no service.
func routes(args []string) error { return printRoutes(args, os.Stdout) }

func printRoutes(args []string, out io.Writer) error {
	f := newFlags("routes")
	file := f.String("config", os.Getenv("SLUICE_CONFIG"), "configuration `FILE` (SLUICE_CONFIG)")
	format := f.String("format", "text", "text or json")
	if err := parse(f, args); err != nil {
		return quiet(err)
	}
	write := map[string]func(io.Writer, []admin.Route) error{"text": admin.WriteRoutesText, "json": admin.WriteRoutesJSON}[*format]
	if write == nil {
		return fmt.Errorf("--format is text or json, not %q", *format)
	}
	cfg, err := config.Load(*file, os.Getenv)
	if err != nil {
		return err
	}
	opts := []gateway.Option{gateway.WithServices(shop.Services()...)}
	if *file == "" { // What a demonstration serves.
		opts = append(opts, gateway.WithHTTPServices(shop.HTTPServices()...))
	}
	all, err := gateway.RoutesOf(cfg, opts...)
	if err != nil {
		return config.Locate(*file, err)
	}
	return write(out, all)
}
