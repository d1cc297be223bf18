package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// requestPatience bounds a request of this package.
const requestPatience = 30 * time.Second

// get sends one request to what need not be fast, and answers the body of a 200.
func get(ctx context.Context, url, token string) ([]byte, error) {
	var body bytes.Buffer
	err := send(ctx, http.DefaultClient, url, token, &body)
	return body.Bytes(), err
}

// send sends one request and copies the answer's body. Anything but 200 is an
// error.
func send(ctx context.Context, client *http.Client, url, token string, body io.Writer) error {
	resp, err := do(ctx, client, http.MethodGet, url, token, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	if resp.StatusCode != http.StatusOK {
		complaint, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("answered %s: %s", resp.Status, complaint)
	}
	_, err = io.Copy(body, resp.Body)
	return err
}

func do(ctx context.Context, client *http.Client, method, url, token, contentType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", contentType)
	}
	return client.Do(req)
}

// newClient keeps conns connections alive and asks for no compression, which
// one gateway might offer and the other not.
func newClient(conns int) (*http.Client, func()) {
	t := &http.Transport{MaxIdleConns: conns, MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns, DisableCompression: true}
	return &http.Client{Transport: t, Timeout: requestPatience}, t.CloseIdleConnections
}
