//go:build amd64

package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// TestLayout compares Go's idea of struct record and its constants with what
// the compiler put into the object.
func TestLayout(t *testing.T) {
	spec, err := loadWitness()
	if err != nil {
		t.Fatal(err)
	}
	var record *btf.Struct
	if err := spec.Types.TypeByName("record", &record); err != nil {
		t.Fatal(err)
	}
	want := map[string]struct{ offset, size int }{
		"time":       {offTime, 8},
		"ino":        {offIno, 8},
		"dev":        {offDev, 4},
		"generation": {offGeneration, 4},
		"pid":        {offPID, 4},
		"tid":        {offTID, 4},
		"parent":     {offParent, 4},
		"dirfd":      {offDirfd, 4},
		"flags":      {offFlags, 4},
		"fmode":      {offFmode, 4},
		"exit_code":  {offExitCode, 4},
		"mode":       {offMode, 2},
		"path_len":   {offPathLen, 2},
		"interp_len": {offInterpLen, 2},
		"kind":       {offKind, 1},
		"abi":        {offABI, 1},
		"notes":      {offNotes, 4},
	}
	if record.Size != recordSize || len(record.Members) != len(want) {
		t.Errorf("struct record: %d bytes, %d members; want %d, %d", record.Size, len(record.Members), recordSize, len(want))
	}
	for _, m := range record.Members {
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		if m.BitfieldSize > 0 {
			size = int(m.BitfieldSize) / 8
		}
		if w := want[m.Name]; int(m.Offset.Bytes()) != w.offset || size != w.size {
			t.Errorf("record.%s: %d bytes at %d, want %d at %d", m.Name, size, m.Offset.Bytes(), w.size, w.offset)
		}
	}
	checkEnum(t, spec.Types, "kind", map[string]uint64{
		"KIND_OPEN": uint64(KindOpen), "KIND_HANDLE": uint64(KindHandle), "KIND_EXEC": uint64(KindExec),
		"KIND_LOADER": uint64(KindLoader), "KIND_FORK": uint64(KindFork), "KIND_EXIT": uint64(KindExit),
	})
	checkEnum(t, spec.Types, "abi", map[string]uint64{
		"ABI_NATIVE": uint64(ABINative), "ABI_COMPAT32": uint64(ABICompat32), "ABI_X32": uint64(ABIX32),
	})
	checkEnum(t, spec.Types, "note", map[string]uint64{
		"NOTE_PATH_UNREADABLE": notePathUnreadable, "NOTE_PATH_TRUNCATED": notePathTruncated, "NOTE_FILE_GONE": noteFileGone,
	})
}

func checkEnum(t *testing.T, types *btf.Spec, name string, want map[string]uint64) {
	t.Helper()
	var enum *btf.Enum
	if err := types.TypeByName(name, &enum); err != nil {
		t.Errorf("enum %s: %v", name, err)
		return
	}
	if len(enum.Values) != len(want) {
		t.Errorf("enum %s has %d values, want %d", name, len(enum.Values), len(want))
	}
	for _, v := range enum.Values {
		if value, ok := want[v.Name]; !ok || value != v.Value {
			t.Errorf("%s = %d, want %d", v.Name, v.Value, value)
		}
	}
}

// TestGeneratedFilesAreCurrent regenerates the object in another directory and
// compares the bytes: the committed one was made from these sources, and holds
// nothing of the place where that was done.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	if _, err := exec.LookPath("clang-14"); err != nil {
		unavailable(t, "the pinned compiler is missing: %v", err)
	}
	module, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "elsewhere", "bpf")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.[ch]")
	if err != nil {
		t.Fatal(err)
	}
	copies := map[string]string{"generate.go": "generate.go", "../go.mod": "../go.mod", "../go.sum": "../go.sum"}
	for _, name := range sources {
		copies[name] = name
	}
	for from, to := range copies {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	generate := exec.Command("go", "generate", ".")
	generate.Dir = dir
	generate.Env = append(os.Environ(), "PWD="+dir)
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("go generate: %v\n%s", err, out)
	}
	for _, name := range []string{"witness_x86_bpfel.go", "witness_x86_bpfel.o"} {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, fresh) {
			t.Errorf("%s is not what go generate makes of the sources", name)
		}
		if bytes.Contains(committed, []byte(module)) {
			t.Errorf("%s holds the path of the checkout", name)
		}
	}
}
