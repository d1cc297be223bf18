package rest

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestOtherHeadersStay: what is no kept answer says what it always did.
func TestOtherHeadersStay(t *testing.T) {
	e := newEdge(t, nil)
	r := httptest.NewRequest("GET", echoPath, nil)
	r.Header.Set("If-None-Match", "*")
	if a := e.do(t, r); a.status != http.StatusOK || a.header.Get("Etag")+a.header.Get("Age") != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", a.status, a.header)
	}
}
