"""What a person sees on a terminal: neutralised text, styled lines, meters, a region that repaints."""
