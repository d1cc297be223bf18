package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// visitor makes one call after the other.
type visitor struct {
	*mix
	rng  *rand.Rand
	n    int
	name string // of the call: no other has it
}

// leaving is a context that in one of four calls ends too early.
func (c *visitor) leaving(ctx context.Context) (_ context.Context, cancel context.CancelFunc, leaves bool) {
	if c.rng.IntN(4) > 0 {
		ctx, cancel = context.WithTimeout(ctx, 30*time.Second)
		return ctx, cancel, false
	}
	ctx, cancel = context.WithCancel(ctx)
	if wait := time.Duration(c.rng.IntN(3000)) * time.Microsecond; wait > 0 {
		time.AfterFunc(wait, cancel)
	}
	return ctx, cancel, true
}

// gone says whether an error is only that the caller has left.
func gone(leaves bool, err error) bool {
	return leaves && (status.Code(err) == codes.Canceled || errors.Is(err, context.Canceled))
}

// message has bytes of its own: small ones, those of one frame and of several.
func (c *visitor) message() *testv1.EchoRequest {
	n := []int{0, 100, 1500, 15_000, 40_000}[c.rng.IntN(5)]
	b := bytes.Repeat([]byte(c.name+" "), n/(len(c.name)+1)+1)
	return &testv1.EchoRequest{Id: c.name, Kinds: &testv1.Kinds{FBytes: b, FString: c.name}, Padding: int32(c.rng.IntN(2) * n)} //nolint:gosec // Small.
}

// same compares an echo with what it is of.
func same(got *testv1.EchoResponse, want *testv1.EchoRequest) error {
	if got.GetId() != want.GetId() || !proto.Equal(got.GetKinds(), want.GetKinds()) || got.GetPadding() != strings.Repeat("x", int(want.GetPadding())) || got.GetSubject() != "ada" {
		return fmt.Errorf("another's answer, or a spoilt one: %.200v", got)
	}
	return nil
}

// echo is a unary call with messages, in one of two compressed.
func (c *visitor) echo() error {
	ctx, cancel, leaves := c.leaving(c.ctx)
	defer cancel()
	var opts []grpc.CallOption
	if c.rng.IntN(2) == 0 {
		opts = append(opts, grpc.UseCompressor("gzip"))
	}
	in := c.message()
	out, err := c.test.Echo(ctx, in, opts...)
	if err != nil {
		if gone(leaves, err) {
			return nil
		}
		return err
	}
	return same(out, in)
}

// frame is one with bytes that are given back.
func (c *visitor) frame() error {
	ctx, cancel, leaves := c.leaving(c.ctx)
	defer cancel()
	in := c.message()
	b, err := proto.Marshal(in)
	if err != nil {
		return err
	}
	f := &wire.Frame{}
	if err := c.raw.Invoke(ctx, testv1.TestService_Echo_FullMethodName, &wire.Frame{Data: b}, f); err != nil {
		if gone(leaves, err) {
			return nil
		}
		return err
	}
	defer f.Free()
	out := &testv1.EchoResponse{}
	if err := proto.Unmarshal(f.Data, out); err != nil {
		return err
	}
	return same(out, in)
}

// rest is the same as JSON, in one of three encodings.
func (c *visitor) rest() error {
	ctx, cancel, leaves := c.leaving(context.Background())
	defer cancel()
	in := c.message()
	body, err := protojson.Marshal(in)
	if err != nil {
		return err
	}
	got, code, err := c.fetch(ctx, "POST", c.testURL+"/test/v1/echo/"+c.name, c.bearer, []string{"", "gzip", "zstd"}[c.rng.IntN(3)], body)
	if err != nil && gone(leaves, err) {
		return nil
	}
	if err != nil || code != http.StatusOK {
		return fmt.Errorf("%d, %w", code, err)
	}
	out := &testv1.EchoResponse{}
	if err := protojson.Unmarshal(got, out); err != nil {
		return fmt.Errorf("%.200s: %w", got, err)
	}
	return same(out, in)
}

// fails gets an error of its own, over either edge.
func (c *visitor) fails() error {
	in := &testv1.EchoRequest{FailCode: 5, FailMessage: "no " + c.name, Kinds: &testv1.Kinds{FBytes: make([]byte, c.rng.IntN(5000))}}
	if c.n%2 == 0 {
		if _, err := c.test.Echo(c.ctx, in); status.Convert(err).Message() != in.GetFailMessage() {
			return fmt.Errorf("want %q: %w", in.GetFailMessage(), err)
		}
		return nil
	}
	body, err := protojson.Marshal(in)
	if err != nil {
		return err
	}
	got, code, err := c.fetch(context.Background(), "POST", c.testURL+"/test/v1/echo/x", c.bearer, "", body)
	if err != nil || code != http.StatusNotFound || !strings.Contains(string(got), in.GetFailMessage()) {
		return fmt.Errorf("%d %.200s, %w", code, got, err)
	}
	return nil
}

// down is a stream that is read slowly, and in one of four calls not to its end.
func (c *visitor) down() error {
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	size, count := c.rng.IntN(30_000), int32(20)
	st, err := c.test.Down(ctx, &testv1.DownRequest{Count: count, Padding: int32(size)}) //nolint:gosec // Small.
	if err != nil {
		return err
	}
	want, until := strings.Repeat("x", size), count
	if c.rng.IntN(4) == 0 {
		until = c.rng.Int32N(count)
	}
	for i := range until {
		if i%8 == 7 {
			time.Sleep(time.Millisecond)
		}
		got, err := st.Recv()
		if err != nil || got.GetIndex() != i || got.GetPadding() != want {
			return fmt.Errorf("message %d is %.100v, %w", i, got, err)
		}
	}
	if until < count {
		return nil
	}
	if _, err := st.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("no end: %w", err)
	}
	return nil
}

// downREST is the same as lines of JSON.
func (c *visitor) downREST() error {
	size, count, want := c.rng.IntN(30_000), 20, 20
	req, err := http.NewRequestWithContext(context.Background(), "GET", fmt.Sprintf("%s/test/v1/down?count=%d&padding=%d", c.testURL, count, size), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", c.bearer)
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if c.rng.IntN(4) == 0 {
		want = c.rng.IntN(count)
	}
	lines := json.NewDecoder(res.Body)
	for i := range want {
		var line struct {
			Result struct {
				Index   int
				Padding string
			}
		}
		if err := lines.Decode(&line); err != nil || line.Result.Index != i || line.Result.Padding != strings.Repeat("x", size) {
			return fmt.Errorf("line %d is %.100v, %w", i, line, err)
		}
	}
	return nil
}

// chat sends some messages, then reads their answers.
func (c *visitor) chat() error {
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	st, err := c.test.Chat(ctx)
	if err != nil {
		return err
	}
	n := 1 + c.rng.IntN(5)
	for i := range n {
		m := c.message()
		m.Id = fmt.Sprint(c.name, ".", i)
		if err := st.Send(m); err != nil {
			return err
		}
	}
	for i := range n {
		if got, err := st.Recv(); err != nil || got.GetId() != fmt.Sprint(c.name, ".", i) {
			return fmt.Errorf("answer %d is %.100v, %w", i, got, err)
		}
	}
	return st.CloseSend() // And leaves.
}

// orders is a list of the shop.
func (c *visitor) orders() error {
	ctx, cancel, leaves := c.leaving(c.shopCtx)
	defer cancel()
	got, err := c.list.ListOrders(ctx, &orderv1.ListOrdersRequest{UserId: "ada"})
	return equal(got, c.orderAll, leaves, err)
}

// overview is a composite: when its caller leaves, its branches do.
func (c *visitor) overview() error {
	ctx, cancel, leaves := c.leaving(c.shopCtx)
	defer cancel()
	got, err := c.bff.GetUserOverview(ctx, &bffv1.GetUserOverviewRequest{UserId: "ada"})
	return equal(got, c.overAll, leaves, err)
}

func equal(got, want proto.Message, leaves bool, err error) error {
	switch {
	case err != nil && gone(leaves, err):
		return nil
	case err != nil:
		return err
	case !proto.Equal(got, want):
		return fmt.Errorf("got %.500v, want %.500v", got, want)
	}
	return nil
}

// read gets one of the shop's pages, in one of three encodings.
func (c *visitor) read() error {
	ctx, cancel, leaves := c.leaving(context.Background())
	defer cancel()
	for path, want := range c.pages { // One of them.
		got, code, err := c.fetch(ctx, "GET", c.shopURL+path, c.bought, []string{"", "gzip", "zstd"}[c.rng.IntN(3)], nil)
		if err != nil && gone(leaves, err) {
			return nil
		}
		if err != nil || code != http.StatusOK || !bytes.Equal(got, want) {
			return fmt.Errorf("%s: %d %.300s, %w", path, code, got, err)
		}
		break
	}
	return nil
}
