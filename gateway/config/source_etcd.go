package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

const (
	// etcdTimeout bounds one question to etcd.
	etcdTimeout = 5 * time.Second
	// etcdAgain is the pause before etcd is asked again that did not answer.
	etcdAgain = 2 * time.Second
)

// etcdSource is a key in etcd whose value is a configuration in YAML.
type etcdSource struct {
	name, key string
	getenv    func(string) string
	client    *clientv3.Client
	seen      seen
}

// openEtcd reads etcd://host:2379[,host:2379]/key?… and etcds://, which is over TLS.
// The parameters are files and a name: ca_file, cert_file, key_file, server_name,
// username, password_file. No password stands in a URL.
func openEtcd(name string, getenv func(string) string) (*etcdSource, error) {
	u, err := url.Parse(name)
	if err != nil {
		return nil, errors.New("the configuration's address is no URL: want etcd://host:2379/key")
	}
	s := &etcdSource{key: strings.TrimPrefix(u.Path, "/"), getenv: getenv}
	s.name = u.Scheme + "://" + u.Host + "/" + s.key
	if u.Host == "" || s.key == "" {
		return nil, fmt.Errorf("%s: want %s://host:2379/key", s.name, u.Scheme)
	}
	if u.User != nil {
		return nil, fmt.Errorf("%s: a password has no place in a URL: use ?username=…&password_file=…", s.name)
	}
	c := clientv3.Config{Logger: zap.NewNop(), DialTimeout: etcdTimeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second}
	scheme := "http://"
	if u.Scheme == "etcds" {
		scheme = "https://"
	}
	for _, host := range strings.Split(u.Host, ",") {
		c.Endpoints = append(c.Endpoints, scheme+host)
	}
	if err := s.parameters(u, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	if s.client, err = clientv3.New(c); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return s, nil
}

func (s *etcdSource) parameters(u *url.URL, c *clientv3.Config) error {
	var ca, cert, key, server string
	known := map[string]*string{"ca_file": &ca, "cert_file": &cert, "key_file": &key, "server_name": &server, "username": &c.Username}
	for name, values := range u.Query() {
		switch to := known[name]; {
		case len(values) != 1:
			return fmt.Errorf("parameter %s comes %d times", name, len(values))
		case to != nil:
			*to = values[0]
		case name == "password_file":
			raw, err := os.ReadFile(values[0])
			if err != nil {
				return err
			}
			c.Password = strings.TrimRight(string(raw), "\r\n")
		default:
			return fmt.Errorf("unknown parameter %q: want ca_file, cert_file, key_file, server_name, username or password_file", name)
		}
	}
	if u.Scheme != "etcds" {
		if ca+cert+key+server != "" {
			return errors.New("files of TLS need etcds://")
		}
		return nil
	}
	c.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server}
	if ca != "" {
		pem, err := os.ReadFile(ca) //nolint:gosec // The operator names the file.
		if err != nil {
			return err
		}
		if c.TLS.RootCAs = x509.NewCertPool(); !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s: no certificate in it", ca)
		}
	}
	if (cert == "") != (key == "") {
		return errors.New("cert_file and key_file go together")
	}
	if cert == "" {
		return nil
	}
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		return err
	}
	// Read for each connection: certificates are replaced.
	c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		return &pair, err
	}
	return nil
}

// Load implements Source. Its errors have the lines and columns of the value.
func (s *etcdSource) Load(ctx context.Context) (*configv1.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	data, _, err := s.get(ctx)
	s.seen.note(data, err)
	if err != nil {
		return nil, err
	}
	return load(&file{path: s.name, data: data}, s.getenv)
}

// get reads the key, and says at which revision.
func (s *etcdSource) get(ctx context.Context) (data []byte, revision int64, err error) {
	r, err := s.client.Get(clientv3.WithRequireLeader(ctx), s.key)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: etcd does not answer: %w", s.name, err)
	}
	if len(r.Kvs) == 0 {
		return nil, r.Header.GetRevision(), fmt.Errorf("%s: there is no such key", s.name)
	}
	if len(r.Kvs[0].Value) > maxFile {
		return nil, r.Header.GetRevision(), fmt.Errorf("%s: larger than %d bytes", s.name, maxFile)
	}
	return r.Kvs[0].Value, r.Header.GetRevision(), nil
}

// Watch implements Source. While etcd is away the configuration in use stays; when
// it is back, what has changed is seen.
func (s *etcdSource) Watch(ctx context.Context, log *slog.Logger, changed func()) {
	away := false
	look := func() (revision int64, err error) {
		asked, cancel := context.WithTimeout(ctx, etcdTimeout)
		defer cancel()
		data, revision, err := s.get(asked)
		if revision == 0 {
			return 0, err
		}
		if !s.seen.is(data, err) { // A key that is gone is told of, too.
			changed()
		}
		return revision, nil
	}
	for ctx.Err() == nil {
		revision, err := look()
		if err == nil {
			if away {
				log.Info("etcd answers again", "source", s.name)
			}
			away = false
			err = s.wait(ctx, revision)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if !away {
			log.Warn("etcd does not tell of changes: the configuration in use stays, and it is asked again", "source", s.name, "error", mask(err.Error()))
		}
		away = true
		select {
		case <-ctx.Done():
		case <-time.After(etcdAgain):
		}
	}
}

// wait returns when the key has changed after a revision, or with why that cannot
// be known.
func (s *etcdSource) wait(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for r := range s.client.Watch(ctx, s.key, clientv3.WithRev(revision+1)) {
		if err := r.Err(); err != nil {
			return err
		}
		if len(r.Events) > 0 {
			return nil
		}
	}
	return errors.New("the watch has ended")
}

// String implements Source.
func (s *etcdSource) String() string { return s.name }

// Close implements Source.
func (s *etcdSource) Close() error { return s.client.Close() }
