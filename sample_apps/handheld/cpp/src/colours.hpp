// Exact ways from a file's colour to the contract's; where there is none, a frame is refused.
#ifndef SCAN_COLOURS_HPP
#define SCAN_COLOURS_HPP

#include "frame.hpp"

namespace scan {

// Turns 8- or 16-bit pixels of `stated` into the contract's colour, where that says the same:
// gray as a colour of equal channels, and back; an index as its entry of the palette; RGB as
// BGR. Returns false, with the frame unchanged, where it would not be exact.
bool state_in_contract_colour(Frame &frame, Colour stated);

// Such as `rgb`.
const char *name_of(Colour colour);

} // namespace scan

#endif
