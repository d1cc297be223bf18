package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAPIKeyFile(t *testing.T) {
	keys, err := LoadAPIKeys(filepath.Join("testdata", "apikeys", "good.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || keys[0].GetId() != "ci-2026" || keys[0].GetOwner() != "ci" || len(keys[0].GetScopes()) != 2 ||
		!keys[0].GetExpires().AsTime().Equal(time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)) || keys[1].GetExpires() != nil {
		t.Errorf("got %v", keys)
	}
	for _, content := range []string{"", "# none yet\n", "keys: []\n"} {
		path := filepath.Join(t.TempDir(), "keys.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if keys, err := LoadAPIKeys(path); err != nil || len(keys) != 0 {
			t.Errorf("%q: %v, err %v", content, keys, err)
		}
	}
	if _, err := LoadAPIKeys(filepath.Join(t.TempDir(), "nope.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestBadAPIKeyFiles(t *testing.T) {
	t.Chdir(filepath.Join("testdata", "apikeys", "bad"))
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, err %v", len(files), err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			keys, err := LoadAPIKeys(file)
			if err == nil {
				t.Fatalf("accepted as %v", keys)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("tells a key")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", []byte(err.Error()+"\n"))
		})
	}
}

// A file that is no good still says which keys it names, so that those it does not
// can be stopped.
func TestKeysNamedByABadFile(t *testing.T) {
	for content, want := range map[string]string{
		"keys: [{id: a, hash: h}, {id: b, owner: [], nope: 1}, {owner: c}, 5, {id: [d]}]": "a=h b=",
		"keys: [{id: a}]\nkeys: [{id: b}]":                                                "a= b=",
		"keys: [{id: a}]\nmore: 1":                                                        "a=",
		"kyes: [{id: a}]":                                                                 "",
		"keys: {id: a}":                                                                   "",
		"[{id: a}]":                                                                       "",
		"keys: [{id: a}":                                                                  "",
		"keys: [{id: a}]\n---\n":                                                          "",
	} {
		keys, err := loadAPIKeys(&file{path: "k.yaml", data: []byte(content)})
		var got []string
		for _, k := range keys {
			got = append(got, k.GetId()+"="+k.GetHash())
		}
		if err == nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s, err %v", content, got, want, err)
		}
	}
}

// FuzzLoadAPIKeys holds that any bytes are read or refused with their place, and
// that no two keys that are read have one id.
func FuzzLoadAPIKeys(f *testing.F) {
	for _, pattern := range []string{"*.yaml", filepath.Join("bad", "*.yaml")} {
		files, err := filepath.Glob(filepath.Join("testdata", "apikeys", pattern))
		if err != nil || len(files) == 0 {
			f.Fatalf("%v, err %v", files, err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := loadAPIKeys(&file{path: "fuzz.yaml", data: data})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz.yaml:") {
				t.Fatal(err)
			}
			for _, k := range keys {
				if k.GetId() == "" || k.GetOwner() != "" {
					t.Fatalf("named %v", k)
				}
			}
			return
		}
		seen := map[string]bool{}
		for _, k := range keys {
			if k.GetId() == "" || k.GetOwner() == "" || seen[k.GetId()] || !strings.HasPrefix(k.GetHash(), "sha256:") {
				t.Fatalf("accepted %v", k)
			}
			seen[k.GetId()] = true
		}
	})
}
