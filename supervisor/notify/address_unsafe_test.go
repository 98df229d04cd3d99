package notify

import "unsafe"

// address is where b lies in this process's memory.
func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }
