package kit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-gateway/sluice/services/kit"
)

// limited is a type with every place a limit can be in. It nests in itself, in
// maps, and below fields whose rules are ignored.
const limited = `
name: "limited.proto" package: "limited" syntax: "proto3"
message_type {
  name: "M"
  field { name: "names" number: 1 type: TYPE_STRING label: LABEL_REPEATED options { [buf.validate.field] { repeated { max_items: 2 } } } }
  field { name: "pairs" number: 2 type: TYPE_MESSAGE type_name: ".limited.M.PairsEntry" label: LABEL_REPEATED
          options { [buf.validate.field] { map { max_pairs: 2 } } } }
  field { name: "sub" number: 3 type: TYPE_MESSAGE type_name: ".limited.M" label: LABEL_OPTIONAL }
  field { name: "subs" number: 4 type: TYPE_MESSAGE type_name: ".limited.M" label: LABEL_REPEATED }
  field { name: "by_id" number: 5 type: TYPE_MESSAGE type_name: ".limited.M.ByIdEntry" label: LABEL_REPEATED }
  field { name: "ignored" number: 6 type: TYPE_MESSAGE type_name: ".limited.M" label: LABEL_OPTIONAL options { [buf.validate.field] { ignore: IGNORE_ALWAYS } } }
  field { name: "ignored_items" number: 7 type: TYPE_MESSAGE type_name: ".limited.M" label: LABEL_REPEATED
          options { [buf.validate.field] { repeated { max_items: 2 items { ignore: IGNORE_ALWAYS } } } } }
  field { name: "ignored_numbers" number: 8 type: TYPE_INT32 label: LABEL_REPEATED
          options { [buf.validate.field] { ignore: IGNORE_ALWAYS repeated { max_items: 2 } } } }
  field { name: "numbers" number: 9 type: TYPE_INT32 label: LABEL_REPEATED options { [buf.validate.field] { repeated { max_items: 2 } } } }
  field { name: "leaf" number: 10 type: TYPE_MESSAGE type_name: ".limited.Leaf" label: LABEL_OPTIONAL }
  field { name: "none" number: 11 type: TYPE_INT32 label: LABEL_REPEATED options { [buf.validate.field] { repeated { max_items: 0 } } } }
  field { name: "ignored_by_name" number: 12 type: TYPE_MESSAGE type_name: ".limited.M.IgnoredByNameEntry" label: LABEL_REPEATED
          options { [buf.validate.field] { map { values { ignore: IGNORE_ALWAYS } } } } }
  nested_type { name: "PairsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL } }
  nested_type { name: "ByIdEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".limited.M" label: LABEL_OPTIONAL } }
  nested_type { name: "IgnoredByNameEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".limited.M" label: LABEL_OPTIONAL } }
}
message_type {
  name: "Leaf"
  field { name: "at" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
}
`

func limitedType(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(limited), &file); err != nil {
		t.Fatal(err)
	}
	fd, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Messages().ByName("M")
}

// TestSurveyAgreesWithTheValidator: what the survey refuses for its length is what
// protovalidate would have refused, in the same words, and what protovalidate
// would let pass, the survey does too.
func TestSurveyAgreesWithTheValidator(t *testing.T) {
	md := limitedType(t)
	check, err := kit.NewValidate()
	if err != nil {
		t.Fatal(err)
	}
	reference, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	// Too long, in every kind of list and map.
	flaws := map[string]string{
		"names: ['a','b','c']": "names", "numbers: [1,2,3]": "numbers", "none: 1": "none",
		"pairs {key:'a'} pairs {key:'b'} pairs {key:'c'}":      "pairs",
		"ignored_items {} ignored_items {} ignored_items {}":   "ignored_items",
		"names: ['a','b'] leaf {at: 1} subs {} numbers: [1,2]": "", "ignored_numbers: [1,2,3]": "",
	}
	// And below every kind of field. %s is filled with one of them.
	places := map[string]string{
		"%s": "", "sub { %s }": "sub.", "sub { sub { %s } }": "sub.sub.", "subs {} subs { %s }": "subs[1].",
		"by_id { key: -7 value { %s } }": "by_id[-7].", "subs { by_id { key: 1 value { sub { %s } } } }": "subs[0].by_id[1].sub.",
		"ignored { %s }": "!", "ignored { subs { sub { %s } } }": "!", "ignored_items { %s }": "!",
		"ignored_by_name { key: 'k' value { %s } }": "!", "sub { ignored { %s } }": "!",
	}
	for flaw, field := range flaws {
		for place, prefix := range places {
			text := fmt.Sprintf(place, flaw)
			t.Run(text, func(t *testing.T) {
				m := dynamicpb.NewMessage(md)
				if err := prototext.Unmarshal([]byte(text), m); err != nil {
					t.Fatal(err)
				}
				want := reference.Validate(m)
				if field == "" || prefix == "!" {
					if got := check(m); want != nil || got != nil {
						t.Fatalf("err = %v, want none; protovalidate says %v", got, want)
					}
					return
				}
				var rule *protovalidate.ValidationError
				if !errors.As(want, &rule) || len(rule.Violations) != 1 {
					t.Fatalf("protovalidate says %v, want one violation", want)
				}
				got := wantSmall(t, check(m))
				if len(got) != 1 || got[0].GetField() != prefix+field || got[0].GetField() != protovalidate.FieldPathString(rule.Violations[0].Proto.GetField()) ||
					got[0].GetReason() != rule.Violations[0].Proto.GetRuleId() || got[0].GetDescription() != rule.Violations[0].Proto.GetMessage() {
					t.Errorf("violations = %v, protovalidate says %v", got, rule.Violations[0])
				}
			})
		}
	}
}

// TestNULIsFoundEverywhere: also where no rule is asked.
func TestNULIsFoundEverywhere(t *testing.T) {
	md := limitedType(t)
	check, err := kit.NewValidate()
	if err != nil {
		t.Fatal(err)
	}
	for text, path := range map[string]string{
		`names: ["a", "\000"]`:                                                               "names[1]",
		`pairs { key: "a\000" }`:                                                             "pairs",
		`sub { subs {} subs { names: "\000" } }`:                                             "sub.subs[1].names[0]",
		`by_id { key: 3 value { names: "\000" } }`:                                           "by_id[3].names[0]",
		`ignored { subs { names: "\000" } }`:                                                 "ignored.subs[0].names[0]",
		`ignored_items { sub { pairs { key: "\000" } } }`:                                    "ignored_items[0].sub.pairs",
		`ignored_by_name { key: "a\"b" value { names: "\000" } }`:                            `ignored_by_name["a\"b"].names[0]`,
		`ignored_by_name { key: "` + strings.Repeat("é", 30) + `" value { names: "\000" } }`: `ignored_by_name["` + strings.Repeat("é", 18) + `…"].names[0]`,
	} {
		t.Run(path, func(t *testing.T) {
			m := dynamicpb.NewMessage(md)
			if err := prototext.Unmarshal([]byte(text), m); err != nil {
				t.Fatal(err)
			}
			wantViolation(t, check(m), path, "string.nul")
		})
	}
	clean := dynamicpb.NewMessage(md)
	if err := prototext.Unmarshal([]byte(`names: "a" sub { names: "\001" } ignored { names: "b" }`), clean); err != nil {
		t.Fatal(err)
	}
	if err := check(proto.Message(clean)); err != nil {
		t.Errorf("without a NUL: %v", err)
	}
}
