package upstream_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// told is a target that answers what it is told to, and counts.
type told struct {
	backend
	answer []byte
}

func (t *told) Invoke(_ context.Context, _ string, _, response *wire.Frame, _, _ *metadata.MD) error {
	t.calls.Add(1)
	response.Data = t.answer
	return nil
}

// TestWhatIsKept: whole answers are, what lacks a branch and what cannot be read are
// not; and what a caller does to its frame nobody else sees.
func TestWhatIsKept(t *testing.T) {
	whole, err := proto.Marshal(&bffv1.UserOverview{})
	if err != nil {
		t.Fatal(err)
	}
	partial, err := proto.Marshal(&bffv1.UserOverview{Partial: []*bffv1.PartialFailure{{Branch: "orders"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		answer []byte
		calls  int32
	}{"whole": {whole, 1}, "partial": {partial, 3}, "unreadable": {[]byte{0x0a, 0xff}, 3}} {
		t.Run(name, func(t *testing.T) {
			sd := bffv1.File_shop_bff_v1_bff_proto.Services().ByName("BffService")
			table, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Defaults: policy.Defaults{Deadline: time.Second, MaxRequestBytes: 1 << 20}, Overrides: map[string]policy.Override{"shop.bff.v1.BffService/GetUserOverview": {Cache: &policyv1.Cache{
				Scope: policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, Ttl: durationpb.New(time.Minute)}}}, Linked: protoregistry.GlobalTypes})
			if err != nil {
				t.Fatal(err)
			}
			c, err := cache.New(cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			service := &told{answer: test.answer}
			conn, err := upstream.New(upstream.Options{Catalogue: table, Targets: map[string]upstream.Target{"shop.bff.v1.BffService": service},
				Signer: signer{}, Logger: slog.New(slog.DiscardHandler), Observer: &observer{}, Cache: c})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				call := &policy.Call{Method: table.Method(getOverview).Method, Principal: policy.NewPrincipal("ada", "", nil, time.Time{})}
				ctx, err := policy.Chain{}.Admit(t.Context(), call)
				if err != nil {
					t.Fatal(err)
				}
				var a upstream.Answer
				if err := conn.Call(ctx, call, &wire.Frame{Data: []byte{}}, &a); err != nil || string(a.Message.Data) != string(test.answer) {
					t.Errorf("%q %v", a.Message.Data, err)
				}
				if (i > 0 && test.calls == 1) != (call.Cache == "hit") || (test.calls == 1) != (a.Cached != nil) {
					t.Errorf("%d: %s, kept %v", i, call.Cache, a.Cached)
				}
				_ = append(a.Message.Data, "more"...)
				a.Message.Free()
			}
			if n := service.calls.Load(); n != test.calls {
				t.Errorf("%d calls", n)
			}
		})
	}
}
