package locate

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// headSize is BINPRM_BUF_SIZE: the part of a file that the kernel looks at to
// tell how to execute it (linux/binfmts.h).
const headSize = 256

// maxInterpreterPath bounds the PT_INTERP segment of an ELF file; the kernel's
// own bound is PATH_MAX (fs/binfmt_elf.c).
const maxInterpreterPath = unix.PathMax

// Interpreter returns the name of the file that the kernel executes with f or
// instead of it: the interpreter of a script ("#!", execve(2)), or the loader
// of a dynamically linked ELF program (PT_INTERP). script tells them apart: an
// interpreter can itself be a script, a loader's own loader is not looked at.
// The name is empty for a program that needs neither, and for a file that is
// not ours to read.
//
// The kernel opens these files itself, where no filter sees it.
func (l *Locator) Interpreter(f *File) (name []byte, script bool) {
	if f.State != Located || !f.Regular() {
		return nil, false
	}
	fd, err := unix.Open(string(l.procName("/proc/self/fd/", f.fd, "", 0)), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false
	}
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	var head [headSize]byte
	n, err := file.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return nil, false
	}
	if line, ok := bytes.CutPrefix(head[:n], []byte("#!")); ok {
		return scriptInterpreter(line), true
	}
	return elfInterpreter(file, head[:n]), false
}

// scriptInterpreter returns the first word of a "#!" line. A line that does
// not end within the head still counts when its first word does
// (fs/binfmt_script.c).
func scriptInterpreter(line []byte) []byte {
	rest, _, _ := bytes.Cut(line, []byte("\n"))
	rest = bytes.TrimLeft(rest, " \t")
	if i := bytes.IndexAny(rest, " \t\x00"); i >= 0 {
		rest = rest[:i]
	}
	return bytes.Clone(rest)
}

// elfInterpreter returns the contents of the PT_INTERP segment. It reads the
// program headers itself: debug/elf reads the sections too, which the kernel
// ignores and a hostile file can make large.
func elfInterpreter(file io.ReaderAt, head []byte) []byte {
	headers, ok := programHeaders(head)
	if !ok {
		return nil
	}
	table := make([]byte, headers.count*headers.size)
	if n, err := file.ReadAt(table, headers.offset); n < len(table) && err != nil {
		return nil
	}
	for i := range headers.count {
		offset, size, ok := headers.interpreter(table[i*headers.size:])
		if !ok {
			continue
		}
		if size < 2 || size > maxInterpreterPath || offset < 0 {
			return nil
		}
		name := make([]byte, size)
		if n, err := file.ReadAt(name, offset); n < len(name) && err != nil {
			return nil
		}
		name, _, _ = bytes.Cut(name, []byte{0})
		return name
	}
	return nil
}

// programTable is where an ELF file keeps its program headers.
type programTable struct {
	order  binary.ByteOrder
	wide   bool // ELFCLASS64
	offset int64
	size   int // of one header
	count  int
}

const (
	elf32HeaderSize, elf64HeaderSize   = 52, 64
	elf32ProgramSize, elf64ProgramSize = 32, 56
)

func programHeaders(head []byte) (programTable, bool) {
	var t programTable
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || len(head) < elf64HeaderSize {
		return t, false
	}
	switch elf.Data(head[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
		t.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		t.order = binary.BigEndian
	default:
		return t, false
	}
	minimum := elf32ProgramSize
	switch elf.Class(head[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
		t.wide, minimum = true, elf64ProgramSize
		t.offset = int64(t.order.Uint64(head[32:]))
		t.size, t.count = int(t.order.Uint16(head[54:])), int(t.order.Uint16(head[56:]))
	case elf.ELFCLASS32:
		t.offset = int64(t.order.Uint32(head[28:]))
		t.size, t.count = int(t.order.Uint16(head[42:])), int(t.order.Uint16(head[44:]))
	default:
		return t, false
	}
	// The kernel refuses headers of another size, and more than 64 KiB of them.
	return t, t.size == minimum && t.count > 0 && t.size*t.count <= 65536 && t.offset >= 0
}

// interpreter returns where header, one of t's, says that the interpreter's
// name is.
func (t *programTable) interpreter(header []byte) (offset, size int64, ok bool) {
	if elf.ProgType(t.order.Uint32(header)) != elf.PT_INTERP {
		return 0, 0, false
	}
	if t.wide {
		return int64(t.order.Uint64(header[8:])), int64(t.order.Uint64(header[32:])), true
	}
	return int64(t.order.Uint32(header[4:])), int64(t.order.Uint32(header[16:])), true
}
