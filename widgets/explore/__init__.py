"""Looking: dates, band combinations, before and after, the series of pixels."""
