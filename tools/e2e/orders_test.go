package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
)

// order is what the tests look at of an order in JSON.
type order struct{ OrderID, State, Note string }

// orderBody is an order to place, told from others by its note.
func orderBody(note string) string {
	return fmt.Sprintf(`{"lines":[{"sku":"rotor-iii","quantity":2,"price":{"currencyCode":"EUR","units":"3"}}],"note":%q}`, note)
}

func place(t *testing.T, g *gateway, token, note string) string {
	t.Helper()
	var o order
	g.rest(t, "POST", "/v1/users/ada/orders", token, orderBody(note)).want(t, 201, &o)
	if o.OrderID == "" || o.State != "ORDER_STATE_PLACED" {
		t.Fatalf("placed %+v", o)
	}
	return o.OrderID
}

// notes counts all orders of ada by their note, page by page.
func notes(t *testing.T, g *gateway, token string) map[string]int {
	t.Helper()
	count := map[string]int{}
	for page := ""; ; {
		var list struct {
			Orders        []order
			NextPageToken string
		}
		g.rest(t, "GET", "/v1/users/ada/orders?page_size=100&page_token="+page, token, "").want(t, 200, &list)
		for _, o := range list.Orders {
			count[o.Note]++
		}
		if page = list.NextPageToken; page == "" {
			return count
		}
	}
}

// watch is an order being watched, over either edge. next returns its next state;
// io.EOF says that the watch has ended well.
type watch struct {
	next func() (state string, err error)
}

// mustNext fails unless the next state is this one.
func (w watch) mustNext(t *testing.T, state string) {
	t.Helper()
	if got, err := w.next(); err != nil || got != state {
		t.Fatalf("watch: %q, %v; want %q", got, err, state)
	}
}

func (w watch) mustEnd(t *testing.T) {
	t.Helper()
	if got, err := w.next(); !errors.Is(err, io.EOF) {
		t.Fatalf("watch: %q, %v; want its end", got, err)
	}
}

// problemLine is the last line of a stream over REST that has failed.
type problemLine struct{ Code string }

func (p *problemLine) Error() string { return p.Code }

// watchREST reads GET /v1/orders/{id}:watch line by line. The connection is its
// own.
func watchREST(t *testing.T, g *gateway, token, id string) watch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	res, err := g.open(ctx, "GET", "/v1/orders/"+id+":watch", token, nil)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("watch: %d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	lines := json.NewDecoder(res.Body)
	return watch{func() (string, error) {
		var line struct {
			Result order
			Error  *problemLine
		}
		if err := lines.Decode(&line); err != nil {
			return "", err
		}
		if line.Error != nil {
			return "", line.Error
		}
		return line.Result.State, nil
	}}
}

func watchGRPC(t *testing.T, ctx context.Context, cc grpc.ClientConnInterface, id string) watch {
	t.Helper()
	s, err := orderv1.NewOrderServiceClient(cc).WatchOrder(ctx, &orderv1.WatchOrderRequest{OrderId: id})
	if err != nil {
		t.Fatal(err)
	}
	return watch{func() (string, error) {
		o, err := s.Recv()
		return o.GetState().String(), err
	}}
}

const (
	placed    = "ORDER_STATE_PLACED"
	cancelled = "ORDER_STATE_CANCELLED"
)

// TestWatch: who watches over one edge sees what somebody else does over the
// other.
func TestWatch(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{})
	token := g.token(t)
	watchedAcross(t, g, g, token)
}

// watchedAcross watches through one gateway what is done through another.
func watchedAcross(t *testing.T, watched, acting *gateway, token string) {
	t.Helper()
	id := place(t, acting, token, "watched")
	overREST, overGRPC := watchREST(t, watched, token, id), watchGRPC(t, as(t, token), watched.conn, id)
	overREST.mustNext(t, placed)
	overGRPC.mustNext(t, placed)
	if _, err := orderv1.NewOrderServiceClient(acting.conn).CancelOrder(as(t, token), &orderv1.CancelOrderRequest{OrderId: id}); err != nil {
		t.Fatal(err)
	}
	for _, w := range []watch{overREST, overGRPC} {
		w.mustNext(t, cancelled)
		w.mustEnd(t) // Cancelled is final.
	}

	id = place(t, acting, token, "watched with grpcurl")
	overREST = watchREST(t, watched, token, id)
	overREST.mustNext(t, placed)
	var o order
	acting.rest(t, "POST", "/v1/orders/"+id+":cancel", token, "{}").want(t, 200, &o)
	overREST.mustNext(t, cancelled)
	overREST.mustEnd(t)
	out, complaint, code := watched.grpcurl(t, token, "-d", `{"order_id":"`+id+`"}`, "shop.order.v1.OrderService/WatchOrder")
	if code != 0 || strings.Count(out, `"orderId"`) != 1 || !strings.Contains(out, cancelled) {
		t.Errorf("grpcurl: %d %s%s", code, out, complaint)
	}
}

// orderLines are those of orderBody.
func orderLines() []*orderv1.OrderLine {
	return []*orderv1.OrderLine{{Sku: "rotor-iii", Quantity: 2, Price: &typev1.Money{CurrencyCode: "EUR", Units: 3}}}
}
