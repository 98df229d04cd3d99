package bpf

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Kind says what happened.
type Kind uint8

// The kinds of event. The values are those of enum kind in record.h.
const (
	KindOpen   Kind = iota + 1 // open, creat, openat, openat2 succeeded
	KindHandle                 // open_by_handle_at succeeded; no path
	KindExec                   // a new image; the file is the one that runs, for a script its interpreter
	KindLoader                 // the ELF interpreter that the kernel opened for the exec before; no path
	KindFork                   // a new process; threads make no event
	KindExit                   // the last thread of a process ended
)

var kindNames = [...]string{
	KindOpen:   "open",
	KindHandle: "handle",
	KindExec:   "exec",
	KindLoader: "loader",
	KindFork:   "fork",
	KindExit:   "exit",
}

// String returns the word that traces and reports use.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// ABI is the system call interface through which a file was opened.
type ABI uint8

// The ABIs. The values are those of enum abi in record.h.
const (
	ABINative   ABI = iota // the machine's own
	ABICompat32            // 32-bit calls on a 64-bit kernel
	ABIX32                 // x86-64's ABI with 32-bit pointers
)

// String returns the name of the ABI.
func (a ABI) String() string {
	switch a {
	case ABINative:
		return "native"
	case ABICompat32:
		return "compat32"
	case ABIX32:
		return "x32"
	}
	return fmt.Sprintf("abi %d", uint8(a))
}

// Event is one thing that a tracked process did.
type Event struct {
	Kind Kind
	ABI  ABI           // of the call: KindOpen, KindHandle
	Time time.Duration // since boot, CLOCK_BOOTTIME

	// Process ids in the pid namespace of the process that called Open; 0
	// for a process that has none there.
	PID    int // thread group
	TID    int
	Parent int // KindFork: thread group of the parent

	// The file, by the kernel's identity: KindOpen, KindHandle, KindExec,
	// KindLoader.
	Dev        uint32 // super_block.s_dev, major<<20 | minor
	Ino        uint64
	Generation uint32
	Mode       uint32 // st_mode: type and permission bits
	Flags      uint32 // flags as the open file has them: access mode, O_PATH …; O_CREAT, O_EXCL, O_TRUNC are gone
	fmode      uint32

	// The names as asked. They alias a buffer of the Witness and are valid
	// until the next Read.
	Path   []byte
	Interp []byte // KindExec: the name of what runs, when it is not Path
	Dirfd  int32  // what a relative Path is relative to, as asked

	PathUnreadable bool // the task's memory could not be read; Path is empty
	PathTruncated  bool // the ring was nearly full; the end of a name is missing
	FileGone       bool // the descriptor was closed before it was looked at: no identity

	Status unix.WaitStatus // KindExit
}

// fmode_t bits of include/linux/fs.h.
const (
	fmodeRead    = 0x1
	fmodeWrite   = 0x2
	fmodeCreated = 0x100000 // Linux 4.19
)

// Readable reports whether the file can be read through the new descriptor.
// It cannot through one of O_PATH.
func (e *Event) Readable() bool { return e.fmode&fmodeRead != 0 }

// Writable reports whether the file can be written through the new
// descriptor.
func (e *Event) Writable() bool { return e.fmode&fmodeWrite != 0 }

// Created reports whether the open made the file.
func (e *Event) Created() bool { return e.fmode&fmodeCreated != 0 }

// Offsets of struct record in record.h; TestLayout compares them with the
// object's BTF.
const (
	offTime       = 0
	offIno        = 8
	offDev        = 16
	offGeneration = 20
	offPID        = 24
	offTID        = 28
	offParent     = 32
	offDirfd      = 36
	offFlags      = 40
	offFmode      = 44
	offExitCode   = 48
	offMode       = 52
	offPathLen    = 54
	offInterpLen  = 56
	offKind       = 58
	offABI        = 59
	offNotes      = 60
	recordSize    = 64
)

// Bits of enum note in record.h.
const (
	notePathUnreadable = 1 << iota
	notePathTruncated
	noteFileGone
)

// decode fills ev from a record of the ring. The names alias raw.
func decode(ev *Event, raw []byte) error {
	if len(raw) < recordSize {
		return fmt.Errorf("record of %d bytes is shorter than its head of %d", len(raw), recordSize)
	}
	kind := Kind(raw[offKind])
	if kind < KindOpen || kind > KindExit {
		return fmt.Errorf("record of unknown kind %d", kind)
	}
	ne := binary.NativeEndian
	pathEnd := recordSize + int(ne.Uint16(raw[offPathLen:]))
	interpEnd := pathEnd + int(ne.Uint16(raw[offInterpLen:]))
	if interpEnd > len(raw) {
		return fmt.Errorf("names of the record end at byte %d of %d", interpEnd, len(raw))
	}
	notes := ne.Uint32(raw[offNotes:])
	*ev = Event{
		Kind:           kind,
		ABI:            ABI(raw[offABI]),
		Time:           time.Duration(ne.Uint64(raw[offTime:])),
		PID:            int(ne.Uint32(raw[offPID:])),
		TID:            int(ne.Uint32(raw[offTID:])),
		Parent:         int(ne.Uint32(raw[offParent:])),
		Dev:            ne.Uint32(raw[offDev:]),
		Ino:            ne.Uint64(raw[offIno:]),
		Generation:     ne.Uint32(raw[offGeneration:]),
		Mode:           uint32(ne.Uint16(raw[offMode:])),
		Flags:          ne.Uint32(raw[offFlags:]),
		fmode:          ne.Uint32(raw[offFmode:]),
		Path:           raw[recordSize:pathEnd:pathEnd],
		Interp:         raw[pathEnd:interpEnd:interpEnd],
		Dirfd:          int32(ne.Uint32(raw[offDirfd:])),
		PathUnreadable: notes&notePathUnreadable != 0,
		PathTruncated:  notes&notePathTruncated != 0,
		FileGone:       notes&noteFileGone != 0,
		Status:         unix.WaitStatus(ne.Uint32(raw[offExitCode:])),
	}
	return nil
}
