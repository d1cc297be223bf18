package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/services/kit/announce"
	"github.com/sluice-gateway/sluice/services/payments"
	"github.com/sluice-gateway/sluice/services/shop"
)

// options are the command line.
type options struct {
	service, addr, db          string
	assertionKeys              []string
	reflection, seed           bool
	tlsCert, tlsKey, tlsClient string
	etcd                       []string
	etcdPrefix, advertise      string
}

// serviceNames are those that this command runs.
func serviceNames() []string { return append(shop.Names(), payments.Name) }

func parse(args []string, stderr io.Writer) (options, error) {
	var (
		o    options
		keys string
		etcd string
	)
	f := flag.NewFlagSet("shop", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.service, "service", "", "the service to run: "+strings.Join(serviceNames(), ", "))
	f.StringVar(&o.addr, "addr", "127.0.0.1:7001", "where to listen; port 0 takes a free one")
	f.StringVar(&o.db, "db", "", "the database: sqlite:FILE or postgres://…")
	f.StringVar(&keys, "assertion-keys", "", "PEM files, separated by commas, with the public Ed25519 keys of the gateway; read again when they change")
	f.BoolVar(&o.reflection, "reflection", false, "serve gRPC reflection (payments speak plain HTTP)")
	f.BoolVar(&o.seed, "seed", false, "write the demo data, once")
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM file with the certificate chain to serve with")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM file with its private key")
	f.StringVar(&o.tlsClient, "tls-client-ca", "", "PEM file with the authorities of which clients must have a certificate (mTLS)")
	f.StringVar(&etcd, "etcd", "", "URLs of etcd's members, separated by commas: the service is announced there, for gateways with a target etcd:///NAME")
	f.StringVar(&o.etcdPrefix, "etcd-prefix", announce.DefaultPrefix, "what stands before the service's name in the keys of etcd")
	f.StringVar(&o.advertise, "advertise", "", "host:port that is announced; the address it listens on unless it says otherwise")
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	if f.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	for file := range strings.SplitSeq(keys, ",") {
		if file = strings.TrimSpace(file); file != "" {
			o.assertionKeys = append(o.assertionKeys, file)
		}
	}
	for u := range strings.SplitSeq(etcd, ",") {
		if u = strings.TrimSpace(u); u != "" {
			o.etcd = append(o.etcd, u)
		}
	}
	return o, o.check()
}

// check says everything that is wrong, and what to do about it.
func (o options) check() error {
	var errs []error
	if !slices.Contains(serviceNames(), o.service) {
		errs = append(errs, fmt.Errorf("--service must be one of %s", strings.Join(serviceNames(), ", ")))
	}
	if o.db == "" {
		errs = append(errs, errors.New("--db is missing: name a database, such as sqlite:data/user.db or postgres://…"))
	}
	if len(o.assertionKeys) == 0 {
		errs = append(errs, errors.New("--assertion-keys is missing: without the gateway's public key nobody can be trusted; "+
			"name the PEM file that holds it"))
	}
	if (o.tlsCert == "") != (o.tlsKey == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key go together"))
	}
	if o.tlsClient != "" && o.tlsCert == "" {
		errs = append(errs, errors.New("--tls-client-ca needs --tls-cert and --tls-key"))
	}
	if o.advertise != "" && len(o.etcd) == 0 {
		errs = append(errs, errors.New("--advertise needs --etcd: nobody else is told"))
	}
	return errors.Join(errs...)
}
