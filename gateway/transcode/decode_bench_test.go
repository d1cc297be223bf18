package transcode_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/gateway/transcode"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// orderBody is a CreateOrderRequest of so many lines, as a web client sends it.
func orderBody(lines int) []byte {
	var b strings.Builder
	b.WriteString(`{"userId":"ada","order":{"lines":[`)
	for i := range lines {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sku":"tea-%03d","title":"Darjeeling First Flush, 250 g","quantity":%d,"price":{"currencyCode":"EUR","units":"%d","nanos":990000000}}`, i%1000, 1+i%9, 12+i%40)
	}
	b.WriteString(`],"note":"Please leave it with the neighbours."},"requestId":"0b9f7c1e-7f0e-4f43-8f2e-0c2f3a0f6f3c"}`)
	return []byte(b.String())
}

const userBody = `{"user":{"email":"ada@example.com","displayName":"Ada Lovelace","phone":"+441234567890"},"requestId":"0b9f7c1e-7f0e-4f43-8f2e-0c2f3a0f6f3c"}`

// The same bodies for encoding/json.
type (
	jsonOrder struct {
		UserID string `json:"userId"`
		Order  struct {
			Lines []struct {
				Sku      string `json:"sku"`
				Title    string `json:"title"`
				Quantity int32  `json:"quantity"`
				Price    struct {
					CurrencyCode string `json:"currencyCode"`
					Units        int64  `json:"units,string"`
					Nanos        int32  `json:"nanos"`
				} `json:"price"`
			} `json:"lines"`
			Note string `json:"note"`
		} `json:"order"`
		RequestID string `json:"requestId"`
	}
	jsonUser struct {
		User struct {
			Email       string  `json:"email"`
			DisplayName string  `json:"displayName"`
			Phone       *string `json:"phone"`
		} `json:"user"`
		RequestID string `json:"requestId"`
	}
)

// BenchmarkDecode reads bodies as the REST edge does, beside protojson and
// encoding/json. Only the ratios of one run mean anything.
func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		body []byte
		into func() proto.Message
		like func() any
	}{
		{"order5", orderBody(5), func() proto.Message { return &orderv1.CreateOrderRequest{} }, func() any { return &jsonOrder{} }},
		{"user", []byte(userBody), func() proto.Message { return &userv1.CreateUserRequest{} }, func() any { return &jsonUser{} }},
		{"100kB", orderBody(780), func() proto.Message { return &orderv1.CreateOrderRequest{} }, func() any { return &jsonOrder{} }},
	} {
		p := planOf(b, transcode.New(transcode.Options{Types: protoregistry.GlobalTypes}), c.into())
		run := func(name string, f func(buf []byte) ([]byte, error)) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(c.body)))
				var buf []byte
				for b.Loop() {
					var err error
					if buf, err = f(buf[:0]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("wire", func(buf []byte) ([]byte, error) { return p.AppendWire(buf, c.body) })
		run("wire+proto", func(buf []byte) ([]byte, error) {
			buf, err := p.AppendWire(buf, c.body)
			if err != nil {
				return nil, err
			}
			return buf, proto.Unmarshal(buf, c.into())
		})
		run("protojson", func([]byte) ([]byte, error) { return nil, protojson.Unmarshal(c.body, c.into()) })
		run("encodingjson", func([]byte) ([]byte, error) { return nil, json.Unmarshal(c.body, c.like()) })
	}
}

// largeMap is a Kinds with a map of so many keys.
func largeMap(keys int) string {
	var b strings.Builder
	b.WriteString(`{"mString":{`)
	for i := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"key-%d":"value"`, i)
	}
	b.WriteString(`}}`)
	return b.String()
}
