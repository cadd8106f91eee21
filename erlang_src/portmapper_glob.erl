%% @doc Patterns over names, as {@link portmapper:names/1} has them, for where the names of
%% other hosts are: the library, which does the same, need not be there.
-module(portmapper_glob).

-export([compile/1, matches/2]).
-export_type([glob/0]).

-opaque glob() :: [part()].
-type part() :: any | one | char() | {set, IsListed :: boolean(), [{char(), char()}]}.
%% `any' characters or none, `one' character, this one, or one that is listed or is not.

%% @doc A pattern obeys the rules for names: UTF-8 of 1 to 255 characters without NUL.
-spec compile(binary()) -> {ok, glob()} | error.
compile(Glob) ->
    case unicode:characters_to_list(Glob) of
        [_ | _] = Characters when length(Characters) =< 255 ->
            case lists:member(0, Characters) of
                true -> error;
                false -> {ok, parts(Characters)}
            end;
        _ ->
            error
    end.

parts("**" ++ Rest) -> parts("*" ++ Rest);
parts("*" ++ Rest) -> [any | parts(Rest)];
parts("?" ++ Rest) -> [one | parts(Rest)];
parts("[!" ++ Rest) -> set(false, Rest, "!" ++ Rest);
parts("[" ++ Rest) -> set(true, Rest, Rest);
parts([Character | Rest]) -> [Character | parts(Rest)];
parts([]) -> [].

%% A bracket that nothing closes stands for itself, as does what is behind it.
set(IsListed, Listed, Behind) ->
    case ranges(Listed, []) of
        {Ranges, Rest} -> [{set, IsListed, Ranges} | parts(Rest)];
        error -> [$[ | parts(Behind)]
    end.

ranges([$] | Rest], [_ | _] = Ranges) -> {Ranges, Rest};
ranges([First, $-, Last | Rest], Ranges) when Last =/= $] -> ranges(Rest, [{First, Last} | Ranges]);
ranges([Character | Rest], Ranges) -> ranges(Rest, [{Character, Character} | Ranges]);
ranges([], _Ranges) -> error.

%% @doc Whether the whole name fits the pattern. It takes at most about half as many steps
%% as the square of the name's characters.
-spec matches(Name :: binary(), glob()) -> boolean().
matches(_Name, [any]) ->
    true;
matches(Name, Parts) ->
    case unicode:characters_to_list(Name) of
        Characters when is_list(Characters) -> fits(Parts, Characters, none);
        _ -> false
    end.

%% `Behind' is what follows the last asterisk, and where that was tried: an earlier one need
%% not be looked at again.
fits([any], _Rest, _Behind) -> true;
fits([any | Parts], Rest, _Behind) -> fits(Parts, Rest, {Parts, Rest});
fits([], [], _Behind) -> true;
fits([_ | _], [], _Behind) -> false;
fits([Part | Parts], [Character | Rest], Behind) ->
    case is_one(Part, Character) of
        true -> fits(Parts, Rest, Behind);
        false -> fits_later(Behind)
    end;
fits([], [_ | _], Behind) ->
    fits_later(Behind).

fits_later({Parts, [_ | Rest]}) -> fits(Parts, Rest, {Parts, Rest});
fits_later(_Behind) -> false.

is_one(one, _Character) -> true;
is_one({set, IsListed, Ranges}, Character) ->
    lists:any(fun({First, Last}) -> First =< Character andalso Character =< Last end, Ranges)
        =:= IsListed;
is_one(This, Character) -> This =:= Character.
