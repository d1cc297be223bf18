// Command sluice is the gateway as a program.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// command is a subcommand; run gets the arguments after its name.
type command struct {
	name, args, help string
	run              func(args []string) error
}

func commands() []command {
	return []command{
		{"serve", "[--config FILE|etcd://HOST/KEY] [--demo]", "run the gateway", serve},
		{"token", "--subject NAME [--scope \"S …\"] [--ttl 1h]", "print a token of the development key", token},
		{"keys rotate", "[--settle 30s] [--retire] [--public DIR]", "replace the key of the assertions while all runs", keysRotate},
		{"keys retire", "[--settle 30s] [--public DIR]", "take away what an earlier rotation left", keysRetire},
		{"keys", "[--out DIR] [--public DIR]", "make the key pair of the assertions to the services", keys},
		{"apikey create", "--owner NAME [--scope \"S …\"] [--expires 90d]", "print a new API key, and what to store of it", apikeyCreate},
		{"config check", "FILE|etcd://HOST/KEY", "check a configuration", configCheck},
		{"config diff", "FROM TO | TO [--admin HOST:PORT]", "say what a configuration changes, and what of it needs a restart", configDiff},
		{"routes", "[--config FILE] [--format text|json]", "print every route with its rule and limits", routes},
		{"explain", "METHOD PATH | SERVICE/METHOD [flags]", "say what would happen to a request, and why", explain},
		{"version", "", "print the version", version},
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sluice:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	for _, c := range commands() {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return c.run(args[len(words):])
		}
	}
	// Half a name, such as `config`, shows what it could go on with.
	if len(args) > 0 && slices.ContainsFunc(commands(), func(c command) bool { return strings.HasPrefix(c.name, args[0]+" ") }) {
		usage(args[0] + " ")
	} else {
		usage("")
	}
	if len(args) == 0 || isHelp(args[len(args)-1]) {
		return nil
	}
	return fmt.Errorf("no command %q", strings.Join(args[:min(len(args), 2)], " "))
}

func isHelp(arg string) bool {
	return arg == "help" || arg == "--help" || arg == "-help" || arg == "-h"
}

// usage prints the commands whose names begin so.
func usage(begin string) {
	fmt.Fprintln(os.Stderr, "Sluice, a REST-to-gRPC gateway.\n\nusage:")
	for _, c := range commands() {
		if strings.HasPrefix(c.name, begin) {
			fmt.Fprintf(os.Stderr, "  sluice %-13s %-45s %s\n", c.name, c.args, c.help)
		}
	}
	fmt.Fprintln(os.Stderr, "\nenvironment: SLUICE_CONFIG SLUICE_HTTP_ADDR SLUICE_GRPC_ADDR SLUICE_ADMIN_ADDR SLUICE_DATA_DIR OTEL_*")
}

// newFlags are the flags of a command, whose help begins with its usage.
func newFlags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.Usage = func() {
		for _, c := range commands() {
			if c.name == name {
				fmt.Fprintf(f.Output(), "usage: sluice %s\n\n%s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
			}
		}
		f.PrintDefaults()
	}
	return f
}
