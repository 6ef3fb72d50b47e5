"""Reports: a store of results, or an adapted model, as one page that anybody can open."""
