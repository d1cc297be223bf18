package main

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// Every GET with a JSON answer has the parameter, and nothing else has.
func TestFieldsAreDocumented(t *testing.T) {
	bound, err := bindings(linkedServices())
	if err != nil {
		t.Fatal(err)
	}
	with := 0
	for key, b := range bound {
		at := slices.IndexFunc(generated(t).Paths[b.path][key.verb].Parameters, func(p *parameter) bool { return p.Name == "fields" && p.In == "query" })
		want := key.verb == "get" && !isRawBody(b.method.Output())
		if (at >= 0) != want {
			t.Errorf("%s: documents fields: %v, want %v", key, at >= 0, want)
		}
		if at < 0 {
			continue
		}
		with++
		p := generated(t).Paths[b.path][key.verb].Parameters[at]
		examples, _ := p.Schema["examples"].([]any)
		if len(examples) != 1 || p.Required {
			t.Errorf("%s: parameter %+v", key, p)
			continue
		}
		for path := range strings.SplitSeq(examples[0].(string), ",") {
			if _, err := fieldAt(b.answer, path); err != nil {
				t.Errorf("%s: the example %q is wrong: %v", key, examples[0], err)
			}
		}
		if strings.Contains(p.Description, "`result`") != b.method.IsStreamingServer() {
			t.Errorf("%s: description %q", key, p.Description)
		}
	}
	if with < 8 {
		t.Errorf("%d operations document fields", with)
	}
}

func TestAddFields(t *testing.T) {
	echo := testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService").Methods()
	list := orderv1.File_shop_order_v1_order_proto.Services().ByName("OrderService").Methods().ByName("ListOrders")
	for _, c := range []struct {
		name, verb         string
		responseBody       protoreflect.Name
		method             protoreflect.MethodDescriptor
		parameter, example string
	}{
		{"a list", "get", "", list, "fields", "nextPageToken,orders.orderId"},
		{"no GET", "post", "", list, "", ""},
		{"a field in place of the answer", "get", "orders", list, "fields", "orderId,lines.sku"},
		{"a field without fields", "get", "next_page_token", list, "", ""},
		{"bytes", "get", "", echo.ByName("Download"), "", ""},
	} {
		op := &operation{}
		b := &binding{route: route{verb: c.verb}, method: c.method, answer: answerOf(c.method, c.method.Output().Fields().ByName(c.responseBody))}
		addFields(op, b)
		if c.parameter == "" {
			if len(op.Parameters) > 0 {
				t.Errorf("%s: %+v", c.name, op.Parameters[0])
			}
			continue
		}
		if len(op.Parameters) != 1 || op.Parameters[0].Name != c.parameter {
			t.Errorf("%s: parameters %+v", c.name, op.Parameters)
			continue
		}
		if got := op.Parameters[0].Schema["examples"].([]any)[0]; got != c.example {
			t.Errorf("%s: example %q, want %q", c.name, got, c.example)
		}
	}
}

// Examples lead somewhere, whatever fields a message has.
func TestSomePaths(t *testing.T) {
	messages, paths := testv1.File_sluice_test_v1_test_proto.Messages(), 0
	for i := range messages.Len() {
		md := messages.Get(i)
		for path := range strings.SplitSeq(somePaths(md), ",") {
			if path == "" {
				continue
			}
			paths++
			if _, err := fieldAt(md, path); err != nil {
				t.Errorf("%s: %v", md.FullName(), err)
			}
		}
	}
	if paths < messages.Len() {
		t.Errorf("%d paths of %d messages", paths, messages.Len())
	}
}
