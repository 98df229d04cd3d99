package allowlist

import "fmt"

// FileID is what a verdict is about: the identity of a file, not one of its
// names. Names lie (bind mounts, merged /usr, hard links, symbolic links).
//
// Dev is st_dev as stat(2) and statx(2) give it, in the encoding of
// unix.Mkdev. Birth tells a reused inode number from the file that had it
// before; it is zero where the filesystem keeps no birth time, and then
// Dev and Ino alone count.
type FileID struct {
	Dev, Ino uint64
	Birth    int64 // nanoseconds since the epoch, statx(2) stx_btime
}

// String returns the identity as reports print it: major:minor:inode.
func (id FileID) String() string {
	return fmt.Sprintf("%d:%d:%d", major(id.Dev), minor(id.Dev), id.Ino)
}

// KernelDev returns Dev in the encoding of the kernel's own dev_t
// (include/linux/kdev_t.h: major<<20 | minor), which tracing programs read
// from super_block.s_dev.
func (id FileID) KernelDev() uint32 { return major(id.Dev)<<20 | minor(id.Dev) }

// major and minor decode glibc's split encoding, gnu_dev_major(3).
func major(dev uint64) uint32 {
	return uint32((dev&0x00000000000fff00)>>8) | uint32((dev&0xfffff00000000000)>>32)
}

func minor(dev uint64) uint32 {
	return uint32(dev&0x00000000000000ff) | uint32((dev&0x00000ffffff00000)>>12)
}
