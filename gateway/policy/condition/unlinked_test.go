package condition_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"

	"github.com/sluice-gateway/sluice/gateway/policy/condition"
)

// TestParseOfUnlinkedTypes: on a key of a map that comes twice, the second time with
// another wire type, dynamicpb panics. With types that are not linked in, anybody could send that.
func TestParseOfUnlinkedTypes(t *testing.T) {
	wire, err := hex.DecodeString("3227d001d9e2acfc83eaf8a6120a0008919bafe1f8f5e8819e01c3b5030a07756e6b6e6f776ec4b503")
	if err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(profilev1.File_shop_profile_v1_profile_proto), protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	unlinked := compile(t, dynamicpb.NewMessageType(file.Messages().ByName("Profile")), "true")
	if m, err := unlinked.Parse(wire); !errors.Is(err, condition.ErrMalformed) {
		t.Errorf("taken, as %v, %v", m, err)
	}
	if _, err := unlinked.Parse(nil); err != nil {
		t.Errorf("an empty message: %v", err)
	}
}
