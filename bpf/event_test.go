package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sample is a record as the programs write it, with room behind its names.
func sample(kind Kind, path, interp string) []byte {
	raw := make([]byte, recordSize, recordSize+512)
	ne := binary.NativeEndian
	ne.PutUint64(raw[offTime:], 1)
	ne.PutUint64(raw[offIno:], 2)
	ne.PutUint32(raw[offDev:], 3)
	ne.PutUint32(raw[offGeneration:], 4)
	ne.PutUint32(raw[offPID:], 5)
	ne.PutUint32(raw[offTID:], 6)
	ne.PutUint32(raw[offParent:], 7)
	ne.PutUint32(raw[offDirfd:], 0xffffff9c) // AT_FDCWD
	ne.PutUint32(raw[offFlags:], 9)
	ne.PutUint32(raw[offFmode:], fmodeWrite|fmodeCreated)
	ne.PutUint32(raw[offExitCode:], 7<<8)
	ne.PutUint16(raw[offMode:], 0o100644)
	ne.PutUint16(raw[offPathLen:], uint16(len(path)))
	ne.PutUint16(raw[offInterpLen:], uint16(len(interp)))
	raw[offKind] = byte(kind)
	raw[offABI] = byte(ABICompat32)
	ne.PutUint32(raw[offNotes:], notePathTruncated)
	raw = append(raw, path+interp...)
	return append(raw, "left over from before"...)
}

func TestDecode(t *testing.T) {
	var ev Event
	if err := decode(&ev, sample(KindExec, "/bin/script", "/bin/sh")); err != nil {
		t.Fatal(err)
	}
	if string(ev.Path) != "/bin/script" || string(ev.Interp) != "/bin/sh" {
		t.Errorf("names %q %q", ev.Path, ev.Interp)
	}
	if ev.Kind != KindExec || ev.ABI != ABICompat32 || ev.Time != time.Nanosecond ||
		ev.Ino != 2 || ev.Dev != 3 || ev.Generation != 4 || ev.PID != 5 || ev.TID != 6 || ev.Parent != 7 ||
		ev.Dirfd != unix.AT_FDCWD || ev.Flags != 9 || ev.Mode != 0o100644 || ev.Status.ExitStatus() != 7 {
		t.Errorf("%+v", ev)
	}
	if ev.Readable() || !ev.Writable() || !ev.Created() {
		t.Errorf("read %v write %v created %v", ev.Readable(), ev.Writable(), ev.Created())
	}
	if ev.PathUnreadable || !ev.PathTruncated || ev.FileGone {
		t.Errorf("notes %+v", ev)
	}
}

func TestDecodeRefuses(t *testing.T) {
	cut := sample(KindOpen, "/path", "")
	for name, raw := range map[string][]byte{
		"empty":            nil,
		"cut head":         cut[:recordSize-1],
		"cut path":         cut[:recordSize+4],
		"kind 0":           sample(0, "/path", ""),
		"kind of tomorrow": sample(KindExit+1, "/path", ""),
		"cut second name":  sample(KindExec, "a", "b")[:recordSize+1],
		"lengths that wrap": func() []byte {
			r := sample(KindExec, "a", "b")
			r[offPathLen+1], r[offInterpLen+1] = 0xff, 0xff
			return r
		}(),
	} {
		if err := decode(&Event{}, raw); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(sample(KindOpen, "/usr/include/zlib.h", ""))
	f.Add(sample(KindExec, "/bin/script", "/bin/sh"))
	f.Add(sample(KindExit, "", "")[:recordSize])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var ev Event
		if decode(&ev, raw) != nil {
			return
		}
		names := append(bytes.Clone(ev.Path), ev.Interp...)
		if !bytes.HasPrefix(raw[recordSize:], names) {
			t.Errorf("names %q are not those of the record", names)
		}
		if cap(ev.Path) != len(ev.Path) || cap(ev.Interp) != len(ev.Interp) {
			t.Error("appending to a name would write into the record")
		}
		_ = ev.Kind.String() + ev.ABI.String()
	})
}

func TestNames(t *testing.T) {
	for kind := KindOpen; kind <= KindExit; kind++ {
		if kind.String() == "" {
			t.Errorf("kind %d has no name", kind)
		}
	}
	if got := Kind(0).String() + Kind(99).String() + ABI(99).String(); got != "kind 0kind 99abi 99" {
		t.Error(got)
	}
}
