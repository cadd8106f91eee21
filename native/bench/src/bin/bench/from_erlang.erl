%% Starts a port mapper with one node, and prints how long look-ups take, beside
%% ets:lookup/2 of the same. Evaluated by `erl -eval`: what is timed is compiled.
Set = [{port, 0}, {addresses, ["127.0.0.1"]}, {takeover_socket, none}, {log_level, none}],
_ = application:load(portmapper),
[ok = application:set_env(portmapper, Key, Value) || {Key, Value} <- Set],
{ok, _} = application:ensure_all_started(portmapper),
{ok, _} = portmapper:register("n1", 4711),
{ok, Node} = portmapper:lookup("n1", #{holder => false}),
Table = ets:new(nodes, [public, {read_concurrency, true}]),
true = ets:insert(Table, {<<"n1">>, Node}),
Form = fun(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Parsed} = erl_parse:parse_form(Tokens),
    Parsed
end,
{ok, timed, Code} = compile:forms([
    Form("-module(timed)."),
    Form("-export([t/3])."),
    Form("t(_, _, 0) -> ok;"
         "t(brief, T, N) -> portmapper:lookup(<<\"n1\">>, #{holder => false}), t(brief, T, N - 1);"
         "t(full, T, N) -> portmapper:lookup(<<\"n1\">>), t(full, T, N - 1);"
         "t(ets, T, N) -> ets:lookup(T, <<\"n1\">>), t(ets, T, N - 1).")
]),
{module, timed} = code:load_binary(timed, "timed", Code),
Nanoseconds = fun(What, Count) ->
    Times = [element(1, timer:tc(timed, t, [What, Table, Count])) || _ <- lists:seq(1, 9)],
    lists:nth(5, lists:sort(Times)) * 1000 / Count
end,
Print = fun(Title, What, Count) ->
    io:format("| ~ts | ~b |~n", [Title, round(Nanoseconds(What, Count))])
end,
Print("`portmapper:lookup/2` without the holder", brief, 200000),
Print("`portmapper:lookup/1`, which asks the kernel for the holder", full, 200),
Print("`ets:lookup/2` of the same", ets, 200000),
halt().
