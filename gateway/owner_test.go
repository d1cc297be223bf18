package gateway_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// field is a length-delimited field as it stands on the wire.
func field(num protowire.Number, parts ...string) string {
	content := ""
	for _, p := range parts {
		content += p
	}
	return string(protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), []byte(content)))
}

func group(num protowire.Number, content string) string {
	b := append(protowire.AppendTag(nil, num, protowire.StartGroupType), content...)
	return string(protowire.AppendTag(b, num, protowire.EndGroupType))
}

func varint(num protowire.Number, v uint64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v))
}

// TestOwnerOnTheWire: whoever crafts bytes finds no message that the owner
// check reads as its own and the service as another's. NothingRequest.inner is
// 1, Inner.owner is 1.
func TestOwnerOnTheWire(t *testing.T) {
	everyPlace(t, nil, nil, func(t *testing.T, g *gatewaytest.Gateway) {
		cc, ctx := rawConn(t, g), g.As(t, "ada", "test.write")
		for name, tc := range map[string]struct {
			bytes string
			want  codes.Code
		}{
			"own":                                 {field(1, field(1, "ada")), codes.OK},
			"another's":                           {field(1, field(1, "bob")), codes.PermissionDenied},
			"nobody's":                            {"", codes.PermissionDenied},
			"empty":                               {field(1, field(1, "")), codes.PermissionDenied},
			"own, then another's":                 {field(1, field(1, "ada"), field(1, "bob")), codes.PermissionDenied},
			"another's, then own":                 {field(1, field(1, "bob"), field(1, "ada")), codes.OK},
			"own, then emptied":                   {field(1, field(1, "ada"), field(1, "")), codes.PermissionDenied},
			"split, another's last":               {field(1, field(1, "ada")) + field(1, field(1, "bob")), codes.PermissionDenied},
			"split, own last":                     {field(1, field(1, "bob")) + field(1, field(1, "ada")), codes.OK},
			"split, the second without":           {field(1, field(1, "bob")) + field(1), codes.PermissionDenied},
			"split, the second of something else": {field(1, field(1, "bob")) + field(1, varint(2, 7)), codes.PermissionDenied},
			"own in the wrong wire type":          {field(1, field(1, "bob")) + varint(1, 3), codes.PermissionDenied},
			"own in a group":                      {field(1, field(1, "bob")) + group(1, field(1, "ada")), codes.PermissionDenied},
			"another's in a group":                {field(1, field(1, "ada")) + group(1, field(1, "bob")), codes.OK},
			"own one level too deep":              {field(1, field(4, field(1, "ada"))), codes.PermissionDenied},
			"own in an unknown field":             {field(1, field(9, "ada")), codes.PermissionDenied},
			"a tag in many bytes":                 {"\x8a\x80\x80\x80\x00" + field(1, field(1, "ada"))[1:], codes.InvalidArgument}, // Not all parsers know it.
			"a tag that some cut to 32 bits":      {field(1, field(1, "ada")) + "\x8a\x80\x80\x80\x10" + field(1, field(1, "bob"))[1:], codes.InvalidArgument},
			"cut short":                           {field(1, field(1, "ada"))[:4], codes.InvalidArgument},
			"garbage behind":                      {field(1, field(1, "ada")) + "\xff", codes.InvalidArgument},
			"invalid UTF-8":                       {field(1, field(1, "ada\xff")), codes.InvalidArgument},
			"field number zero":                   {"\x02\x00" + field(1, field(1, "ada")), codes.InvalidArgument},
		} {
			err := cc.Invoke(ctx, "/"+testService+"/Nothing", &wire.Frame{Data: []byte(tc.bytes)}, &emptypb.Empty{})
			if err != nil || tc.want != codes.OK {
				wantCode(t, err, tc.want, "")
			}
			if t.Failed() {
				t.Fatal(name)
			}
		}
	})
}

// TestGarbageRequest: bytes that are no message are the caller's fault, also
// where no owner is read from them.
func TestGarbageRequest(t *testing.T) {
	everyPlace(t, nil, nil, func(t *testing.T, g *gatewaytest.Gateway) {
		cc, ctx := rawConn(t, g), g.As(t, "ada", "")
		garbage := &wire.Frame{Data: []byte("\xff\xff\xff")}
		wantCode(t, cc.Invoke(ctx, "/"+testService+"/Echo", garbage, &wire.Frame{}), codes.InvalidArgument, "not a valid message")
		st, err := cc.NewStream(ctx, downDesc, "/"+testService+"/Down")
		if err == nil {
			err = st.SendMsg(garbage)
		}
		if err == nil {
			err = st.CloseSend()
		}
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, st.RecvMsg(&wire.Frame{}), codes.InvalidArgument, "not a valid message")
	})
}
